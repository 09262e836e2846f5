"""Draws the curves of trained runs for `stages.md`: `python docs/draw_curves.py RUNS` writes `curves/STAGE.svg` for each stage.

Of a stage, the newest finished run in the folder RUNS is drawn: the loss of its training above, what validation said below.
"""

import sys
from pathlib import Path

from omnictl.report.curves import HEIGHT, WIDTH, Point, draw_lines
from omnictl.report.html import Html, element
from omnictl.report.run_files import history
from omnictl.runs.run import Run, newest_run
from omnictl.stages import STAGES

FOLDER = Path(__file__).parent / "curves"

TITLE = 26
"""Pixels above each drawing."""

STYLE = """
text { fill: #59616b; font: 12px system-ui, sans-serif; }
text.title { fill: #1f2328; font-size: 13px; }
.grid { stroke: #dfe2e6; }
.curve { fill: none; stroke: #2563c9; stroke-linejoin: round; stroke-width: 1.8; }
.point { fill: #2563c9; }
.best { fill: none; stroke: #1a7f4b; stroke-width: 2; }
"""


def draw(run: Run) -> str:
    """The curves of a run as one SVG."""
    past = history(run)
    drawings = [("training loss", past.loss, None), (f"validation {past.headline}", past.values, past.best)]
    parts = [
        _panel(name, points, best, number * (TITLE + HEIGHT)) for number, (name, points, best) in enumerate(drawings) if points
    ]
    height = len(parts) * (TITLE + HEIGHT)
    background = element("rect", width=str(WIDTH), height=str(height), fill="#fdfdfc")
    style = element("style", Html(STYLE))
    size = {"viewBox": f"0 0 {WIDTH} {height}", "width": str(WIDTH), "height": str(height)}
    return f"{element('svg', style, background, *parts, xmlns='http://www.w3.org/2000/svg', **size)}\n"


def _panel(name: str, points: list[Point], best: Point | None, top: int) -> Html:
    drawing = draw_lines({"": points}, name, best=best)
    remark = f", best {best.value:.4g} at step {best.step}" if best else ""
    title = f"{name}{', logarithmic' if drawing.is_log else ''}{remark}"
    placed = Html(drawing.svg.replace("<svg ", f'<svg y="{TITLE}" width="{WIDTH}" height="{HEIGHT}" ', 1))
    return element("g", element("text", title, x="8", y="18", class_="title"), placed, transform=f"translate(0 {top})")


def main(root: Path) -> None:
    """Draw every stage that has a finished run."""
    FOLDER.mkdir(exist_ok=True)
    for stage in STAGES:
        if any((root / stage).glob("*/run.json")):
            (FOLDER / f"{stage}.svg").write_text(draw(newest_run(root, stage, "finished")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
