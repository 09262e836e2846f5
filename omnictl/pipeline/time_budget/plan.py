"""How many steps each unit of training gets in a given time, and what these can be expected to achieve.

One number, the level λ from 0 to 2, decides the steps of all units: they rise from none at 0 over those after
which a unit is weak, at a half, to those after which it has learned, at 1, and from there to all that are configured at 2. The plan
is the highest level for which everything fits. No torch, no I/O.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from omnictl.pipeline.time_budget.costs import Expectation, UnitCost, Verdict

TIME_RESERVE = 0.05
"""Share of the time that is left unplanned, for machines that slow down."""

JUDGING_SHARE = 0.1
"""Share of a pipeline's time in which all stages are judged at the end."""

LEAST_JUDGING = 2.5
"""Judging takes at least this many times as long as all validations, which are smaller, up to `MOST_JUDGING` of the time."""
MOST_JUDGING = 0.3

BISECTIONS = 50


class UnitPlan(NamedTuple):
    """What is planned for a unit."""

    unit: str
    steps: int
    configured_steps: int
    seconds: float
    metric: str | None
    expected: Expectation | None
    """None: nothing is known of its settings."""

    def as_json(self) -> dict[str, Any]:
        """As the run's record holds it."""
        expected = None if self.expected is None else self.expected._asdict()
        return {**self._asdict(), "seconds": round(self.seconds, 1), "expected": expected}


class TimePlan(NamedTuple):
    """What is planned for all units."""

    level: float
    """0: nothing can be trained; 1: everything learns; 2: everything is trained as configured."""
    seconds: float
    """The time that is available."""
    judging_seconds: float
    units: tuple[UnitPlan, ...]
    enough_seconds: float
    """Time in which all units would learn."""

    @property
    def fits(self) -> bool:
        """Whether the plan fits the time at all."""
        return sum(unit.seconds for unit in self.units) + self.judging_seconds <= self.seconds

    @property
    def lacking(self) -> dict[str, Verdict]:
        """The units that will not have learned, with what is expected of each."""
        return {unit.unit: unit.expected.verdict for unit in self.units if unit.expected and unit.expected.verdict != "learned"}

    def as_json(self) -> dict[str, Any]:
        """As the run's record holds it."""
        return {
            "level": round(self.level, 3),
            "seconds": round(self.seconds, 1),
            "judging_seconds": round(self.judging_seconds, 1),
            "enough_seconds": round(self.enough_seconds, 1),
            "units": [unit.as_json() for unit in self.units],
        }


def plan_time(
    costs: Sequence[UnitCost], seconds: float, *, judging_seconds: float = 0.0, least: Mapping[str, int] | None = None
) -> TimePlan:
    """The highest level for which all units fit; the lowest if none does.

    Args:
        costs: of the units to train, in order.
        seconds: that there are for everything.
        judging_seconds: of them, what the evaluation at the end takes.
        least: steps that units get in any case.
    """
    least = least or {}
    room = seconds * (1 - TIME_RESERVE) - judging_seconds

    def steps_at(level: float) -> list[int]:
        return [max(cost.steps_at(level), least.get(cost.name, 1)) for cost in costs]

    def total_seconds(level: float) -> float:
        return sum(cost.seconds(steps) for cost, steps in zip(costs, steps_at(level), strict=True))

    level = _highest(total_seconds, room)
    units = tuple(_plan_unit(cost, steps) for cost, steps in zip(costs, steps_at(level), strict=True))
    return TimePlan(level, seconds, judging_seconds, units, (total_seconds(1.0) + judging_seconds) / (1 - TIME_RESERVE))


def plan_judgement(costs: Iterable[UnitCost], seconds: float) -> float:
    """Seconds kept for judging all of a pipeline: a share, and no less than the first examples of each unit take."""
    validations = sum(cost.fixed.evaluate for cost in costs)
    return max(JUDGING_SHARE * seconds, validations, min(LEAST_JUDGING * validations, MOST_JUDGING * seconds))


def _highest(total_seconds: Callable[[float], float], room: float) -> float:
    """The highest level whose seconds fit, 0 if none does."""
    low, high = 0.0, 2.0
    if total_seconds(high) <= room:
        return high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if total_seconds(middle) <= room else (low, middle)
    return low


def _plan_unit(cost: UnitCost, steps: int) -> UnitPlan:
    expected = None if cost.curve is None else cost.curve.expect(steps)
    metric = None if cost.curve is None else cost.curve.metric
    return UnitPlan(cost.name, steps, max(cost.steps, steps), cost.seconds(steps), metric, expected)
