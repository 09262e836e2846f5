"""A time plan in lines for people."""

import math
from collections.abc import Mapping, Sequence

from omnictl.pipeline.time_budget.costs import Verdict
from omnictl.pipeline.time_budget.plan import TimePlan, UnitPlan

NOTABLE_CHANGE = 0.1
"""Relative change of a unit's steps above which it is announced."""


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
    groups = {verdict: [unit for unit, unit_verdict in lacking.items() if unit_verdict == verdict] for verdict in verbs}
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
