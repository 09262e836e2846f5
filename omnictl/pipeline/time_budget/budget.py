"""The time that several units of training share: planned at first, when a unit begins, and when its real speed is known.

No torch, no I/O; the clock is passed in.
"""

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from typing import NamedTuple

from omnictl.pipeline.time_budget.costs import UnitCost
from omnictl.pipeline.time_budget.description import describe_changes, describe_plan
from omnictl.pipeline.time_budget.plan import TimePlan, plan_judgement, plan_time
from omnictl.trainer.plan.step_plan import LEAST_SHARE, Speed, StepPlan

OVERRUN = 1.25
"""A unit whose speed is known may take this many times as long as planned, if the units after it still get their least steps."""

PACES = (0.5, 3.0)
"""Limits of how far one unit's pace, faster or slower than planned, is taken to hold for the others."""


@dataclass
class TimeBudget:
    """The time that several units share: planned at first, when a unit begins, and when its real speed is known."""

    costs: Sequence[UnitCost]
    """Of the units that are left, in order."""
    end: float
    """When all must have ended, on the clock."""
    clock: Callable[[], float]
    tell: Callable[[str], None]
    """Takes a line for people."""
    judged: bool = False
    """Whether all units are evaluated at the end."""
    plan: TimePlan = field(init=False)
    """The first plan, or the last one that was announced."""

    def __post_init__(self) -> None:
        seconds = self._left()
        judging = plan_judgement(self.costs, seconds) if self.judged else 0.0
        self.plan = plan_time(self.costs, seconds, judging_seconds=judging)
        self._least = {unit.unit: math.ceil(LEAST_SHARE * unit.steps) for unit in self.plan.units}
        self._paces: list[float] = []

    def _left(self) -> float:
        return max(0.0, self.end - self.clock())

    def announce(self) -> None:
        """Say how the given time is divided, and what it is too short for."""
        for line in describe_plan(self.plan):
            self.tell(line)

    def planner(self, unit: str) -> "UnitPlanner":
        """The planner that a unit's training asks when its turn comes."""
        return UnitPlanner(self, unit)

    def foresee(self, units: Collection[str]) -> dict[str, int]:
        """The steps that these units would get if the first of them began now; the plan stays as it is."""
        costs = dropwhile(lambda cost: cost.name not in units, self.costs)
        plan = self._plan_anew([cost.scale(self._pace()) for cost in costs])
        return {unit.unit: unit.steps for unit in plan.units if unit.unit in units}

    def begin_anew(self, unit: str) -> None:
        """Count the steps of a unit as not taken: it is trained in a new run."""
        self.costs = [replace(cost, taken=0) if cost.name == unit else cost for cost in self.costs]

    def begin(self, unit: str) -> StepPlan:
        """Plan anew when a unit's first step is about to be taken: its data is ready; says where steps change."""
        while self.costs[0].name != unit:  # those before it have ended
            self.costs = self.costs[1:]
        first, *later = (cost.scale(self._pace()) for cost in self.costs)
        first = replace(first, fixed=first.fixed._replace(prepare=0.0, plan=0.0))
        new = self._plan_anew([first, *later])
        for line in describe_changes(self.plan, new):
            self.tell(line)
        self.plan = new
        return self._share_out(first, later, new, overrun=math.inf)

    def refix(self, unit: str, speed: Speed) -> StepPlan:
        """Plan anew when a unit's real speed is known, from which the others' speed is estimated, too."""
        assert self.costs[0].name == unit
        self._paces.append(speed.step_seconds / self.costs[0].step_seconds)
        first = self.costs[0].scale(self._pace()).with_speed(speed)
        later = [cost.scale(self._pace()) for cost in self.costs[1:]]
        return self._share_out(first, later, self._plan_anew([first, *later]), overrun=OVERRUN)

    def _plan_anew(self, costs: Sequence[UnitCost]) -> TimePlan:
        return plan_time(costs, self._left(), judging_seconds=self.plan.judging_seconds, least=self._least)

    def _share_out(self, first: UnitCost, later: Sequence[UnitCost], plan: TimePlan, *, overrun: float) -> StepPlan:
        """The share of the first unit that is left."""
        kept = sum(cost.seconds(max(cost.taken, self._least[cost.name])) for cost in later)
        latest = self.end - plan.judging_seconds - kept
        unit = plan.units[0]
        deadline = min(latest, self.clock() + overrun * unit.seconds) if later else latest
        return StepPlan(unit.steps, deadline, self._least[unit.unit], first.step_seconds, first.fixed.evaluate)

    def _pace(self) -> float:
        """How much longer than planned the steps of units take."""
        return min(PACES[1], max(PACES[0], statistics.median(self._paces))) if self._paces else 1.0


class UnitPlanner(NamedTuple):
    """A unit's view of the budget, in the form of a `StepPlanner`."""

    budget: TimeBudget
    unit: str

    def begin(self) -> StepPlan:
        """The plan, when all is ready for the next step."""
        return self.budget.begin(self.unit)

    def refix(self, speed: Speed) -> StepPlan:
        """The plan, once the real speed is known."""
        return self.budget.refix(self.unit, speed)
