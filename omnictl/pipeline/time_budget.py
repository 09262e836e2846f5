"""A given time, planned: how many steps each unit of training gets, and what these can be expected to give.

A unit is what is trained in one piece: a stage, or a part of one (codec, aligner, Talker). One number, the level λ from 0 to 2,
decides the steps of all of them: they rise from none at 0 (but for lessons) over those after which a unit is weak, at a half, to
those after which it has learned, at 1, and from there to all that are configured at 2. The plan is the highest level for which
everything fits. No torch, no I/O; the clock is passed in.
"""

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from omnictl.trainer.plan.time_limit import EVALUATION_SHARE, LEAST_SHARE, Speed, StepPlan

Verdict = Literal["learned", "weak", "not learned"]

TIME_RESERVE = 0.05
"""Share of the time that is left unplanned, for machines that slow down."""

JUDGING_SHARE = 0.1
"""Share of a pipeline's time in which all stages are judged at the end."""

LEAST_JUDGING = 2.5
"""Times as long as all validations, which are smaller, that judging takes at least, up to `MOST_JUDGING` of the time."""
MOST_JUDGING = 0.3

DATA_SLACK = 1.5
"""Times as much data as the planned steps read is made, since plans may grow (`data_budget`)."""

LEAST_DATA = 0.15
"""Of the time in which all data is made, what the least of it takes: what is validated on, too."""

OVERRUN = 1.25
"""A unit whose speed is known may take this many times as long as planned, if what comes after it still gets its least steps."""

NOTABLE_CHANGE = 0.1
"""Relative change of a unit's steps from which on it is told."""

PACES = (0.5, 3.0)
"""Limits of what the steps of one unit, shorter or longer than planned, say about those of the others."""

HALFWAY = 0.5
"""The level at which all units are weak, halfway to learned: what others stand on must not be of no use at all."""

BISECTIONS = 50


class CurvePoint(NamedTuple):
    """A whole training of so many steps: what came out."""

    steps: int
    value: float
    """Of the headline metric."""
    verdict: Verdict


class Expectation(NamedTuple):
    """What a training is expected to give."""

    value: float
    verdict: Verdict
    bound: bool
    """Whether the value is only the best that can be hoped for: there are fewer steps than in the shortest training known."""


@dataclass(frozen=True)
class ReferenceCurve:
    """What trainings of several lengths gave."""

    metric: str
    better: Literal["lower", "higher"]
    points: tuple[CurvePoint, ...]
    """At least one, by steps."""

    @property
    def learned_steps(self) -> int | None:
        """Steps of the shortest training that has learned; None if none has."""
        return next((point.steps for point in self.points if point.verdict == "learned"), None)

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
    """What a unit takes beside its steps."""

    prepare: float
    """Its data and features are made."""
    plan: float
    """Number formats and memory plans are tried out."""
    evaluate: float
    """One validation."""
    save: float
    """One checkpoint."""

    def scaled(self, pace: float) -> "FixedSeconds":
        """On a machine that takes `pace` times as long."""
        return FixedSeconds(*(pace * seconds for seconds in self))


@dataclass(frozen=True)
class UnitCost:
    """What a unit takes on this machine, and what its steps are known to give."""

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
    """Of the steps, the first ones, which take less than the others: lessons."""
    first_share: float = 1.0
    """Of another step's time, what one of these takes."""
    steps_of_all_data: int | None = None
    """Steps that read all of its data, of which a shorter training has less made; None: all is made in any case."""

    @property
    def needed_steps(self) -> int:
        """Steps after which it has learned; all that are configured if that is not known."""
        learned = None if self.curve is None else self.curve.learned_steps
        return self.steps if learned is None else min(learned, self.steps)

    @property
    def weak_steps(self) -> int:
        """Steps after which it is weak, no longer of no use; half of those that it needs if that is not known."""
        points = () if self.curve is None else self.curve.points
        weak = next((point.steps for point in points if point.verdict != "not learned"), None)
        return self.needed_steps // 2 if weak is None else min(weak, self.needed_steps)

    def steps_at(self, level: float) -> int:
        """Its steps at a level from 0 to 2, at least one, and not fewer than it has taken."""
        needed = self.needed_steps
        if level <= HALFWAY:
            lessons = min(self.first_steps, self.weak_steps)  # without what comes after them they are of no use
            steps = lessons + 2 * level * (self.weak_steps - lessons)
        elif level <= 1:
            steps = self.weak_steps + (2 * level - 1) * (needed - self.weak_steps)
        else:
            steps = needed + (level - 1) * (self.steps - needed)
        return max(1, self.taken, int(steps))

    def seconds(self, steps: int) -> float:
        """What is left of a training of so many steps in all; grows with the steps."""
        fixed = self.fixed
        cheap = max(0, min(steps, self.first_steps) - self.taken)
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
        """Of the time in which its data is made, what so many steps need."""
        if self.steps_of_all_data is None:
            return 1.0
        return min(1.0, LEAST_DATA + DATA_SLACK * steps / self.steps_of_all_data)

    def seen(self, speed: Speed) -> "UnitCost":
        """What is left of it, as it has been seen to be."""
        evaluate = self.fixed.evaluate if speed.evaluation_seconds is None else speed.evaluation_seconds
        fixed = FixedSeconds(prepare=0.0, plan=0.0, evaluate=evaluate, save=speed.save_seconds)
        return replace(self, step_seconds=speed.step_seconds, fixed=fixed, taken=speed.step)

    def scaled(self, pace: float) -> "UnitCost":
        """On a machine that takes `pace` times as long."""
        return replace(self, step_seconds=pace * self.step_seconds, fixed=self.fixed.scaled(pace))


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
    """That there are."""
    judging_seconds: float
    units: tuple[UnitPlan, ...]
    enough_seconds: float
    """In which all of them would learn."""

    @property
    def fits(self) -> bool:
        """Whether it fits at all."""
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

    def needed(level: float) -> float:
        return sum(cost.seconds(steps) for cost, steps in zip(costs, steps_at(level), strict=True))

    level = _highest(needed, room)
    units = tuple(_plan_unit(cost, steps) for cost, steps in zip(costs, steps_at(level), strict=True))
    return TimePlan(level, seconds, judging_seconds, units, (needed(1.0) + judging_seconds) / (1 - TIME_RESERVE))


def plan_judging(costs: Iterable[UnitCost], seconds: float) -> float:
    """Seconds kept for judging all of a pipeline: a share, and no less than the first examples of each unit take."""
    validations = sum(cost.fixed.evaluate for cost in costs)
    return max(JUDGING_SHARE * seconds, validations, min(LEAST_JUDGING * validations, MOST_JUDGING * seconds))


def _highest(needed: Callable[[float], float], room: float) -> float:
    """The highest level whose seconds fit, 0 if none does."""
    low, high = 0.0, 2.0
    if needed(high) <= room:
        return high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(middle) <= room else (low, middle)
    return low


def _plan_unit(cost: UnitCost, steps: int) -> UnitPlan:
    expected = None if cost.curve is None else cost.curve.expect(steps)
    metric = None if cost.curve is None else cost.curve.metric
    return UnitPlan(cost.name, steps, max(cost.steps, steps), cost.seconds(steps), metric, expected)


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
    """Whether all of it is judged at the end."""
    plan: TimePlan = field(init=False)
    """As it was first, or as people were last told."""

    def __post_init__(self) -> None:
        seconds = self._left()
        judging = plan_judging(self.costs, seconds) if self.judged else 0.0
        self.plan = plan_time(self.costs, seconds, judging_seconds=judging)
        self._least = {unit.unit: math.ceil(LEAST_SHARE * unit.steps) for unit in self.plan.units}
        self._paces: list[float] = []

    def _left(self) -> float:
        return max(0.0, self.end - self.clock())

    def announce(self) -> None:
        """Say what the time given is planned for, and what it will not suffice for."""
        for line in describe_plan(self.plan):
            self.tell(line)

    def planner(self, unit: str) -> "UnitPlanner":
        """What a unit's training asks, when its turn has come."""
        return UnitPlanner(self, unit)

    def begin(self, unit: str) -> StepPlan:
        """Plan anew when a unit's first step is about to be taken: its data is ready; says where steps change."""
        while self.costs[0].name != unit:  # those before it have ended
            self.costs = self.costs[1:]
        first, *later = (cost.scaled(self._pace()) for cost in self.costs)
        first = replace(first, fixed=first.fixed._replace(prepare=0.0, plan=0.0))
        new = self._plan_anew([first, *later])
        for line in describe_changes(self.plan, new):
            self.tell(line)
        self.plan = new
        return self._share_out(first, later, new, overrun=math.inf)

    def refix(self, unit: str, speed: Speed) -> StepPlan:
        """Plan anew when a unit's real speed is known, which tells of the others', too."""
        assert self.costs[0].name == unit
        self._paces.append(speed.step_seconds / self.costs[0].step_seconds)
        first = self.costs[0].scaled(self._pace()).seen(speed)
        later = [cost.scaled(self._pace()) for cost in self.costs[1:]]
        return self._share_out(first, later, self._plan_anew([first, *later]), overrun=OVERRUN)

    def _plan_anew(self, costs: Sequence[UnitCost]) -> TimePlan:
        return plan_time(costs, self._left(), judging_seconds=self.plan.judging_seconds, least=self._least)

    def _share_out(self, first: UnitCost, later: Sequence[UnitCost], plan: TimePlan, *, overrun: float) -> StepPlan:
        """What the first of the units that are left is given."""
        kept = sum(cost.seconds(max(cost.taken, self._least[cost.name])) for cost in later)
        latest = self.end - plan.judging_seconds - kept
        unit = plan.units[0]
        deadline = min(latest, self.clock() + overrun * unit.seconds) if later else latest
        return StepPlan(unit.steps, deadline, self._least[unit.unit], first.step_seconds, first.fixed.evaluate)

    def _pace(self) -> float:
        """How much longer than planned the steps of units take."""
        return min(PACES[1], max(PACES[0], statistics.median(self._paces))) if self._paces else 1.0


class UnitPlanner(NamedTuple):
    """A unit's view of the budget; see `StepPlanner`."""

    budget: TimeBudget
    unit: str

    def begin(self) -> StepPlan:
        """The plan, when all is ready for the next step."""
        return self.budget.begin(self.unit)

    def refix(self, speed: Speed) -> StepPlan:
        """The plan, once the real speed is known."""
        return self.budget.refix(self.unit, speed)


def describe_plan(plan: TimePlan) -> list[str]:
    """A line a unit, and warnings."""
    lines = [_describe_unit(unit) for unit in plan.units]
    if plan.judging_seconds:
        lines.append(f"evaluation of all stages: {duration(plan.judging_seconds)}")
    minutes = math.ceil(plan.enough_seconds / 60)
    enough = f"about {minutes:,} {'minute' if minutes == 1 else 'minutes'} would be enough"
    unknown = [unit.unit for unit in plan.units if unit.expected is None]
    if not plan.fits:
        lines.append(
            f"warning: the time given, {duration(plan.seconds)}, is less than preparation, evaluation and saving take; "
            f"training goes on with the least steps, and takes longer; {enough}"
        )
    if plan.lacking and plan.level >= 1:
        lines.append(f"warning: {_list_verdicts(plan.lacking)} even with these steps")
    elif plan.lacking:
        lines.append(f"warning: in this time {_list_verdicts(plan.lacking)}; {enough}")
    elif unknown and plan.fits and plan.level < 1:
        lines.append(f"{', '.join(unknown)}: fewer steps than configured; {enough} for all of them")
    return lines


def describe_changes(old: TimePlan, new: TimePlan) -> list[str]:
    """A line about the units whose steps have changed notably, if there are any."""
    before = {unit.unit: unit.steps for unit in old.units}
    changed = [unit for unit in new.units if abs(unit.steps - before[unit.unit]) > NOTABLE_CHANGE * before[unit.unit]]
    texts = [f"{unit.unit} {_about(unit.steps)} steps instead of {before[unit.unit]:,}" for unit in changed]
    return [f"planned anew: {', '.join(texts)}"] if texts else []


def _describe_unit(unit: UnitPlan) -> str:
    all_of_them = unit.steps >= unit.configured_steps
    steps = f"all {unit.steps:,} steps" if all_of_them else f"{_about(unit.steps)} of {unit.configured_steps:,} steps"
    expected = "nothing is known of what to expect with these settings"
    if unit.expected is not None:
        expected = f"expect {unit.metric} {'worse than' if unit.expected.bound else 'near'} {unit.expected.value:.3g}"
    return f"{unit.unit}: {steps} in {duration(unit.seconds)}, {expected}"


def _list_verdicts(lacking: Mapping[str, Verdict]) -> str:
    """`asr and sft will be weak, and codec will not learn`."""
    verbs: dict[Verdict, str] = {"weak": "will be weak", "not learned": "will not learn"}
    groups = {verdict: [unit for unit, found in lacking.items() if found == verdict] for verdict in verbs}
    return ", and ".join(f"{_join(units)} {verbs[verdict]}" for verdict, units in groups.items() if units)


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _about(steps: int) -> str:
    """A number of steps, with two digits where that is not exact anyway."""
    if steps < 100:
        return str(steps)
    size = 10 ** (len(str(steps)) - 2)
    return f"about {round(steps / size) * size:,}"


def duration(seconds: float) -> str:
    """`40 s`, `4 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
