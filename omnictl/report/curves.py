"""Curves of a training as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from omnictl.report.html import Html, element, number

WIDTH, HEIGHT = 400, 200
"""About as large as drawings are shown, so that their texts can be read."""

LEFT, RIGHT, TOP, BOTTOM = 50, 20, 12, 34
"""Margins in pixels, for the ticks."""

MOST_LOG_TICKS = 8
"""Of a logarithmic axis; with more, only powers of ten are marked."""

MOST_POINTS = 300
"""Of a curve; more are averaged."""

NUM_COLOURS = 8
"""Of lines in one chart, `curve-0` to `curve-7` in the page's style; more begin anew."""

LOG_RATIO = 30.0
"""From such a ratio of the largest to the smallest value on, the axis of what falls is logarithmic."""


class Point(NamedTuple):
    """A value at a step."""

    step: int
    value: float


class _Axis(NamedTuple):
    """Where values of a range lie, in pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


class Limit(NamedTuple):
    """A value to compare a curve with, drawn as a dashed line; without a name it is only made room for."""

    name: str
    value: float


def curve(
    name: str, points: Sequence[Point], *, best: Point | None = None, limits: Sequence[Limit] = (), from_zero: bool = False
) -> Html:
    """A curve over the steps, with its points marked where they are few; empty without any.

    Args:
        name: of what is drawn.
        points: in order.
        best: one of them, marked.
        limits: what to compare it with.
        from_zero: whether the axis begins at zero, for what has no use for being magnified.
    """
    if not points:
        return Html("")
    at_best = f", best {number(best.value)} at step {best.step}" if best else ""
    averaged = average_curve(points)
    label = f"{name} from {number(averaged[0].value)} to {number(averaged[-1].value)} over {points[-1].step} steps"
    shown = [*limits, *([Limit("", 0.0)] if from_zero else [])]
    return _figure(name, {"": points}, at_best, label, best=best, limits=shown)


def chart(name: str, lines: Mapping[str, Sequence[Point]]) -> Html:
    """Curves of several runs laid over one another, each in a colour that the legend names; empty without any point.

    Args:
        name: of what is drawn.
        lines: the points in order, by the name of the run.
    """
    if not any(lines.values()):
        return Html("")
    legend = [
        element("span", element("span", "━ ", class_=f"curve-{number % NUM_COLOURS}"), label)
        for number, label in enumerate(lines)
        if lines[label]
    ]
    label = f"{name} of {', '.join(label for label in lines if lines[label])}"
    return element("div", _figure(name, lines, "", label), element("p", *legend, class_="legend"))


def _figure(
    name: str,
    lines: Mapping[str, Sequence[Point]],
    remark: str,
    label: str,
    *,
    best: Point | None = None,
    limits: Sequence[Limit] = (),
) -> Html:
    """A drawing with its caption."""
    drawing = draw_lines(lines, label, best=best, limits=limits)
    scale = ", logarithmic" if drawing.is_log else ""
    return element("figure", element("figcaption", f"{name}{scale}{remark}"), drawing.svg)


class Drawing(NamedTuple):
    """Lines in one coordinate system."""

    svg: Html
    """`WIDTH` by `HEIGHT`; its colours are the page's style."""
    is_log: bool
    """Whether the axis of the values is logarithmic."""


def draw_lines(
    lines: Mapping[str, Sequence[Point]], label: str, *, best: Point | None = None, limits: Sequence[Limit] = ()
) -> Drawing:
    """Lines over the steps.

    Args:
        lines: the points in order, by name; at least one point in all.
        label: what is seen, in words.
        best: a point that is marked.
        limits: what to compare with.
    """
    drawn = {number: average_curve(points) for number, points in enumerate(lines.values()) if points}
    x = _Axis(0, max(1, *(points[-1].step for points in drawn.values())), LEFT, WIDTH - RIGHT)
    values = [point.value for points in drawn.values() for point in points] + [limit.value for limit in limits]
    y = _value_axis(values, may_be_log=any(_falls(points) for points in drawn.values()))
    single = len(lines) == 1
    svg = element(
        "svg",
        *_grid(x, y),
        *(part for limit in limits if limit.name for part in _limit_line(limit, y)),
        *(_line(points, x, y, "curve" if single else f"curve curve-{number % NUM_COLOURS}") for number, points in drawn.items()),
        *(_dot(x, y, point, "point", 2.5) for points in drawn.values() for point in points if single and len(points) <= 30),
        *([_dot(x, y, best, "best", 5)] if best else []),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=label,
    )
    return Drawing(svg, y.log)


def _falls(points: Sequence[Point]) -> bool:
    """Whether a curve ends lower than it begins: a share of right answers that rises from a guess is no reason for a log axis."""
    return points[-1].value < points[0].value


def _line(points: Sequence[Point], x: _Axis, y: _Axis, kind: str) -> Html:
    path = " ".join(f"{x.at(point.step):.1f},{y.at(point.value):.1f}" for point in points)
    return element("polyline", points=path, class_=kind)


def _limit_line(limit: Limit, y: _Axis) -> list[Html]:
    at = y.at(limit.value)
    return [
        element("line", x1=str(LEFT), x2=str(WIDTH - RIGHT), y1=f"{at:.1f}", y2=f"{at:.1f}", class_="limit"),
        element("text", f"{limit.name} {limit.value:,.0f}", x=str(WIDTH - RIGHT), y=f"{at + 14:.1f}", text_anchor="end"),
    ]


def average_curve(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points, each the mean of its neighbours; the last step stays where it is."""
    size = math.ceil(len(points) / most)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [Point(part[-1].step, math.fsum(point.value for point in part) / len(part)) for part in parts]


def _value_axis(values: Sequence[float], *, may_be_log: bool) -> _Axis:
    low, high = min(values), max(values)
    if may_be_log and low > 0 and high / low > LOG_RATIO:
        return _Axis(low, high, HEIGHT - BOTTOM, TOP, log=True)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return _Axis(0 if low == 0 else low - room, high + room, HEIGHT - BOTTOM, TOP)


def _grid(x: _Axis, y: _Axis) -> list[Html]:
    lines = []
    for tick in _ticks(y):
        at = f"{y.at(tick):.1f}"
        lines += [
            element("line", x1=str(LEFT), x2=str(WIDTH - RIGHT), y1=at, y2=at, class_="grid"),
            element("text", number(float(tick)), x=str(LEFT - 6), y=at, text_anchor="end", dominant_baseline="middle"),
        ]
    for tick in _ticks(x):
        lines.append(element("text", number(float(tick)), x=f"{x.at(tick):.1f}", y=str(HEIGHT - BOTTOM + 18), text_anchor="middle"))
    return [*lines, element("text", "step", x=str(WIDTH - RIGHT), y=str(HEIGHT - 2), text_anchor="end")]


def _ticks(axis: _Axis) -> list[float]:
    """Round values in the range of an axis."""
    if axis.log:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        candidates = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        if sum(axis.low <= value <= axis.high for value in candidates) > MOST_LOG_TICKS:
            candidates = [10.0**power for power in powers]
    else:
        rough = (axis.high - axis.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        width = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(axis.low / width)
        candidates = [number * width for number in range(first, math.floor(axis.high / width) + 1)]
    return [value for value in candidates if axis.low <= value <= axis.high]


def _dot(x: _Axis, y: _Axis, point: Point, kind: str, radius: float) -> Html:
    return element("circle", cx=f"{x.at(point.step):.1f}", cy=f"{y.at(point.value):.1f}", r=f"{radius:g}", class_=kind)
