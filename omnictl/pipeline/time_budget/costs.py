"""What a unit of training costs, and what its steps are known to achieve. No torch, no I/O.

A unit is what is trained in one piece: a stage, or a part of one (codec, aligner, Talker).
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from omnictl.trainer.plan.step_plan import EVALUATION_SHARE, Speed

Verdict = Literal["learned", "weak", "not learned"]

DATA_SLACK = 1.5
"""How many times as much data is made as the planned steps read, since plans may grow (`data_budget`)."""

LEAST_DATA = 0.15
"""Share of the time for making all data that even the smallest amount takes: validation data is made, too."""

MOST_FIRST_STEPS = 0.5
"""Largest share of a training that its first, cheaper steps may be (`first_steps`)."""

HALFWAY = 0.5
"""The level at which all units are weak, halfway to learned: a unit that others build on must be of some use."""


class CurvePoint(NamedTuple):
    """The result of a complete training of so many steps."""

    steps: int
    value: float
    """Of the headline metric."""
    verdict: Verdict


class Expectation(NamedTuple):
    """What a training is expected to give."""

    value: float
    verdict: Verdict
    bound: bool
    """Whether the value is only the best to hope for, because the shortest known training had more steps."""


@dataclass(frozen=True)
class ReferenceCurve:
    """The results of trainings of several lengths."""

    metric: str
    better: Literal["lower", "higher"]
    points: tuple[CurvePoint, ...]
    """At least one, by steps."""
    useful_steps: int = 0
    """Steps up to which the stages that build on it gain most, where that is more than it needs itself."""

    @property
    def learned_steps(self) -> int | None:
        """Steps of the shortest training that has learned; None if none has."""
        return next((point.steps for point in self.points if point.verdict == "learned"), None)

    @property
    def weak_steps(self) -> int | None:
        """Steps of the shortest training that is weak and of use to others; None if none is."""
        weak = next((point.steps for point in self.points if point.verdict != "not learned"), None)
        return None if weak is None else max(weak, self.useful_steps)

    def expect(self, steps: int) -> Expectation:
        """What a training of this length will give.

        The value is interpolated over the logarithm of the steps; the verdict is that of the point before.
        """
        place = bisect_right([point.steps for point in self.points], steps)
        if place == 0:
            return Expectation(self.points[0].value, "not learned", bound=True)
        before = self.points[place - 1]
        if place == len(self.points):
            return Expectation(before.value, before.verdict, bound=False)
        after = self.points[place]
        share = math.log(steps / before.steps) / math.log(after.steps / before.steps)
        return Expectation(before.value + share * (after.value - before.value), before.verdict, bound=False)


class FixedSeconds(NamedTuple):
    """What a unit takes in addition to its steps."""

    prepare: float
    """Making its data and features."""
    plan: float
    """Trying out number formats and memory plans."""
    evaluate: float
    """One validation."""
    save: float
    """One checkpoint."""

    def scale(self, pace: float) -> "FixedSeconds":
        """The costs on a machine that takes `pace` times as long."""
        return FixedSeconds(*(pace * seconds for seconds in self))


@dataclass(frozen=True)
class UnitCost:
    """What a unit costs on this machine, and what its steps are known to achieve."""

    name: str
    steps: int
    """Configured."""
    eval_every: int
    save_every: int
    step_seconds: float
    fixed: FixedSeconds
    curve: ReferenceCurve | None
    """None: nothing is known of its settings."""
    taken: int = 0
    """Steps that an earlier part of the same run has taken."""
    first_steps: int = 0
    """How many of the first steps take less time than the others; fewer where that were more than `MOST_FIRST_STEPS` of them."""
    first_share: float = 1.0
    """Time of one of these as a share of another step's time."""
    steps_of_all_data: int | None = None
    """Steps that read all of its data. A shorter training makes less data; None: all of it is made in any case."""

    @property
    def needed_steps(self) -> int:
        """Steps after which it has learned and is of use to others; all that are configured if that is not known."""
        if self.curve is None or self.curve.learned_steps is None:
            return self.steps
        return min(max(self.curve.learned_steps, self.curve.useful_steps), self.steps)

    @property
    def weak_steps(self) -> int:
        """Steps after which it is weak but of some use; half of those that it needs if that is not known."""
        weak = None if self.curve is None else self.curve.weak_steps
        return self.needed_steps // 2 if weak is None else min(weak, self.needed_steps)

    def steps_at(self, level: float) -> int:
        """Its steps at a level from 0 to 2, at least one, and not fewer than it has taken."""
        needed = self.needed_steps
        if level <= HALFWAY:
            steps = 2 * level * self.weak_steps
        elif level <= 1:
            steps = self.weak_steps + (2 * level - 1) * (needed - self.weak_steps)
        else:
            steps = needed + (level - 1) * (self.steps - needed)
        return max(1, self.taken, int(steps))

    def seconds(self, steps: int) -> float:
        """Seconds left of a training of so many steps in total; grows with the steps."""
        fixed = self.fixed
        cheap = max(0, min(int(MOST_FIRST_STEPS * steps), self.first_steps) - self.taken)
        training = (max(0, steps - self.taken) - cheap * (1 - self.first_share)) * self.step_seconds
        evaluations = fixed.evaluate + min(EVALUATION_SHARE * training, (1 + steps // self.eval_every) * fixed.evaluate)
        return (
            fixed.prepare * self._share_of_data(steps)
            + fixed.plan
            + training
            + evaluations
            + (2 + steps // self.save_every) * fixed.save
        )

    def _share_of_data(self, steps: int) -> float:
        """Share of the time for making its data that so many steps need."""
        if self.steps_of_all_data is None:
            return 1.0
        return min(1.0, LEAST_DATA + DATA_SLACK * steps / self.steps_of_all_data)

    def with_speed(self, speed: Speed) -> "UnitCost":
        """The costs of what is left of it, from its measured speed."""
        evaluate = self.fixed.evaluate if speed.evaluation_seconds is None else speed.evaluation_seconds
        fixed = FixedSeconds(prepare=0.0, plan=0.0, evaluate=evaluate, save=speed.save_seconds)
        return replace(self, step_seconds=speed.step_seconds, fixed=fixed, taken=speed.step)

    def scale(self, pace: float) -> "UnitCost":
        """The costs on a machine that takes `pace` times as long."""
        return replace(self, step_seconds=pace * self.step_seconds, fixed=self.fixed.scale(pace))
