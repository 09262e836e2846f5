"""A given time is planned under a clock that only tests move."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.costs import CurvePoint, Expectation, FixedSeconds, ReferenceCurve, UnitCost
from omnictl.pipeline.time_budget.description import describe_changes, describe_plan, duration
from omnictl.pipeline.time_budget.plan import plan_judgement, plan_time
from omnictl.trainer.plan.step_plan import Evaluations, Speed, plan_evaluations

CURVE = ReferenceCurve(
    "perplexity",
    "lower",
    (
        CurvePoint(100, 8.0, "not learned"),
        CurvePoint(200, 4.0, "weak"),
        CurvePoint(400, 2.0, "learned"),
        CurvePoint(800, 1.5, "learned"),
    ),
)
NOTHING = FixedSeconds(0, 0, 0, 0)
SOME = FixedSeconds(prepare=10, plan=5, evaluate=2, save=0.5)


def unit(name: str = "a", **changes: Any) -> UnitCost:
    cost = UnitCost(name, steps=1000, eval_every=250, save_every=250, step_seconds=0.1, fixed=SOME, curve=CURVE)
    return replace(cost, **changes)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def budget(costs: list[UnitCost], seconds: float, *, judged: bool = False) -> tuple[TimeBudget, Clock, list[str]]:
    clock, told = Clock(), []
    return TimeBudget(costs, clock.now + seconds, clock, told.append, judged=judged), clock, told


# The curve


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (0, Expectation(8.0, "not learned", bound=True)),
        (99, Expectation(8.0, "not learned", bound=True)),
        (100, Expectation(8.0, "not learned", bound=False)),
        (199, Expectation(pytest.approx(4.03, abs=0.01), "not learned", bound=False)),
        (283, Expectation(pytest.approx(3.0, abs=0.01), "weak", bound=False)),  # halfway by its logarithm
        (400, Expectation(2.0, "learned", bound=False)),
        (5000, Expectation(1.5, "learned", bound=False)),
    ],
)
def test_between_the_points_of_a_curve(steps: int, expected: Expectation) -> None:
    assert CURVE.expect(steps) == expected


def test_a_curve_that_never_learns_needs_all_steps() -> None:
    hopeless = replace(CURVE, points=CURVE.points[:2])
    assert hopeless.learned_steps is None
    assert unit(curve=hopeless).needed_steps == unit(curve=None).needed_steps == 1000
    assert unit().needed_steps == 400
    assert unit(steps=50).needed_steps == 50


# The level


def test_steps_rise_to_what_is_learned_and_from_there_to_what_is_configured() -> None:
    assert [unit().steps_at(level) for level in (0, 0.5, 1, 1.5, 2)] == [1, 200, 400, 700, 1000]
    assert [unit(curve=None).steps_at(level) for level in (0.5, 1, 2)] == [500, 1000, 1000]
    assert unit(taken=300).steps_at(0.5) == 300


def test_what_others_build_on_gets_useful_steps_before_they_get_more() -> None:
    eyes = unit(curve=replace(CURVE, useful_steps=300))
    assert [eyes.steps_at(level) for level in (0.25, 0.5, 0.75, 1)] == [150, 300, 350, 400]
    assert unit(curve=replace(CURVE, useful_steps=150)).weak_steps == 200
    ears = unit(curve=replace(CURVE, useful_steps=600))
    assert (ears.weak_steps, ears.needed_steps) == (600, 600)
    assert unit(steps=500, curve=ears.curve).weak_steps == 500


def test_seconds_grow_with_the_steps() -> None:
    seconds = [unit().seconds(steps) for steps in range(0, 1500, 7)]
    assert seconds == sorted(seconds)
    assert unit(fixed=NOTHING, taken=400).seconds(1000) == pytest.approx(60)


def test_more_time_never_gives_a_unit_fewer_steps() -> None:
    costs = [unit("a"), unit("b", step_seconds=0.3, curve=None), unit("c", eval_every=10, steps=300)]
    plans = [plan_time(costs, seconds) for seconds in range(0, 700, 10)]
    for before, after in itertools.pairwise(plans):
        assert before.level <= after.level
        assert all(one.steps <= two.steps for one, two in zip(before.units, after.units, strict=True))
    assert plans[0].level == 0
    assert plans[-1].level == 2


def test_what_fits_is_trained_as_configured() -> None:
    plan = plan_time([unit("a"), unit("b")], 1000.0, judging_seconds=70.0)
    assert (plan.level, [made.steps for made in plan.units]) == (2, [1000, 1000])
    assert plan.fits
    assert plan.lacking == {}


def test_scarce_time_is_shared_so_that_all_are_equally_far() -> None:
    plan = plan_time([unit("a", fixed=NOTHING), unit("b", fixed=NOTHING, steps=4000, step_seconds=0.2, curve=None)], 440 / 0.95)
    assert plan.level == pytest.approx(0.524, abs=0.001)
    assert [made.steps for made in plan.units] == [209, 2095]
    assert sum(made.seconds for made in plan.units) <= 440
    assert plan.lacking == {"a": "weak"}
    assert plan.enough_seconds == pytest.approx((40 + 800) / 0.95)
    assert plan_time([unit("a", fixed=NOTHING)], 41 / 0.95).lacking == {}


def test_enough_is_enough() -> None:
    costs = [unit("a"), unit("b", step_seconds=0.3)]
    plan = plan_time(costs, 60.0)
    assert plan.lacking
    assert plan_time(costs, plan.enough_seconds + 1).lacking == {}


def test_fixed_costs_alone_exceed_the_time() -> None:
    plan = plan_time([unit("a"), unit("b")], 10.0)
    assert (plan.level, [made.steps for made in plan.units]) == (0, [1, 1])
    assert not plan.fits
    assert plan_time([unit("a")], 10.0, least={"a": 30}).units[0].steps == 30


def test_judging_has_a_share_and_no_less_than_a_validation_of_each() -> None:
    assert plan_judgement([unit(), unit("b")], 1000.0) == pytest.approx(100)
    assert plan_judgement([unit(), unit("b")], 10.0) == 4


def test_few_steps_pay_for_little_data() -> None:
    all_of_it = unit()
    some = replace(all_of_it, steps_of_all_data=1000)
    assert some.seconds(1000) == all_of_it.seconds(1000)
    saved = all_of_it.seconds(100) - some.seconds(100)
    assert saved == pytest.approx(SOME.prepare * (1 - 0.15 - 0.15))


# Evaluations


@pytest.mark.parametrize(
    ("steps", "evaluation_seconds", "expected"),
    [
        (1000, 0.0, Evaluations(untrained=True, every=100)),
        (1000, 0.1, Evaluations(untrained=True, every=100)),  # 100 s of steps allow for 10 s
        (1000, 4.0, Evaluations(untrained=True, every=500)),
        (1000, 9.0, Evaluations(untrained=True, every=1000)),
        (1000, 11.0, Evaluations(untrained=False, every=1000)),
        (10, 50.0, Evaluations(untrained=False, every=100)),
    ],
)
def test_evaluations_take_a_small_share(steps: int, evaluation_seconds: float, expected: Evaluations) -> None:
    assert plan_evaluations(100, steps=steps, step_seconds=0.1, evaluation_seconds=evaluation_seconds) == expected


# What is left


def test_units_that_take_what_was_planned_keep_their_plan() -> None:
    """And have more and more of the reserve."""
    given, clock, _ = budget([unit("codec"), unit("aligner"), unit("talker")], 200.0)
    announced = {made.unit: made.steps for made in given.plan.units}
    for cost in given.costs:
        clock.now += 15
        plan = given.begin(cost.name)
        assert announced[cost.name] <= plan.steps <= 1.3 * announced[cost.name]
        assert plan.deadline <= given.end
        clock.now += cost.seconds(plan.steps) - 15
    assert clock.now <= given.end


def test_a_unit_that_begins_anew_has_all_of_its_steps_to_take() -> None:
    given, _, _ = budget([unit("a", taken=300), unit("b")], 60.0)
    before = given.foresee(["a"])["a"]
    given.begin_anew("a")
    assert [cost.taken for cost in given.costs] == [0, 0]
    assert given.foresee(["a"])["a"] < before


def test_what_one_unit_leaves_the_next_ones_have() -> None:
    given, clock, told = budget([unit("a"), unit("b")], 100.0)
    before = given.plan.units[1].steps
    given.begin("a")
    clock.now += 20
    assert given.begin("b").steps > 1.1 * before
    assert told[-1].startswith("planned anew: b about ")


def test_a_unit_that_runs_over_shrinks_the_next_ones() -> None:
    given, clock, told = budget([unit("a"), unit("b"), unit("c")], 200.0)
    clock.now += 15
    given.begin("a")
    before = [made.steps for made in given.plan.units]
    told.clear()
    clock.now += 100
    plan = given.begin("b")
    assert plan.steps < 0.9 * before[1]
    (line,) = told
    assert line.startswith("planned anew: b about ")
    assert ", c about " in line


def test_no_unit_gets_less_than_a_tenth_of_what_was_announced() -> None:
    given, clock, _ = budget([unit("a"), unit("b")], 200.0)
    announced = given.plan.units[1].steps
    given.begin("a")
    clock.now = given.end + 50
    plan = given.begin("b")
    assert plan.steps == plan.least_steps == -(-announced // 10)


def test_the_deadline_keeps_what_comes_after_alive() -> None:
    given, _, _ = budget([unit("a"), unit("b")], 200.0, judged=True)
    kept = unit("b").seconds(-(-given.plan.units[1].steps // 10))
    plan = given.begin("a")
    assert plan.deadline == pytest.approx(given.end - given.plan.judging_seconds - kept)
    assert given.begin("b").deadline == pytest.approx(given.end - given.plan.judging_seconds)


def test_a_slow_machine_is_shared_out_as_the_planned_one() -> None:
    given, clock, _ = budget([unit("a"), unit("b")], 200.0)
    planned = given.begin("a").steps
    clock.now += 2
    slow = given.refix("a", Speed(10, step_seconds=0.2, evaluation_seconds=2.0, save_seconds=0.5))
    assert 0.4 * planned < slow.steps < 0.7 * planned
    assert slow.step_seconds == 0.2
    assert slow.deadline < given.end - 50  # b is as slow, and has its share
    clock.now += unit("a", step_seconds=0.2).seconds(slow.steps) - 15 - 2
    clock.now += 2 * 15  # to prepare the next one takes twice as long, too
    assert given.begin("b").steps == pytest.approx(slow.steps, rel=0.15)


def test_a_fast_machine_takes_more_steps_but_never_more_than_configured() -> None:
    given, _, _ = budget([unit("a"), unit("b")], 100.0)
    planned = given.begin("a").steps
    fast = given.refix("a", Speed(10, step_seconds=0.05, evaluation_seconds=None, save_seconds=0.5))
    assert planned < fast.steps <= 1000
    assert fast.evaluation_seconds == pytest.approx(1.0)  # never seen: planned, at the pace of the steps
    assert given.refix("a", Speed(20, 0.0001, 0.1, 0.1)).steps <= 1000


def test_units_that_are_found_finished_are_passed_over() -> None:
    given, _, _ = budget([unit("codec"), unit("aligner"), unit("talker")], 100.0)
    assert given.begin("talker").steps > given.plan.units[0].steps - 1
    assert [cost.name for cost in given.costs] == ["talker"]


# What people are told


def test_a_line_a_unit_and_what_would_be_enough() -> None:
    plan = plan_time(
        [unit("pretrain"), unit("codec", step_seconds=1.0), unit("sft", curve=None, step_seconds=0.5)], 400.0, judging_seconds=28.0
    )
    lines = describe_plan(plan)
    assert lines[0].startswith("pretrain: about ")
    assert " of 1,000 steps in " in lines[0]
    assert ", expect perplexity near " in lines[0]
    assert lines[2].endswith("nothing is known of what to expect with these settings")
    assert lines[3] == "evaluation of all stages: 28 s"
    assert lines[4].startswith("warning: in this time pretrain and codec will not learn; about ")
    assert lines[4].endswith(" minutes would be enough")


def test_all_fits_and_nothing_is_warned_of() -> None:
    assert describe_plan(plan_time([unit("pretrain")], 1000.0)) == [
        "pretrain: all 1,000 steps in 2 min, expect perplexity near 1.5"
    ]


def test_too_little_time_is_said_and_goes_on() -> None:
    lines = describe_plan(plan_time([unit("a")], 3.0))
    assert lines[0] == "a: 1 of 1,000 steps in 18 s, expect perplexity worse than 8"
    assert lines[1].startswith(
        "warning: the time given, 3 s, is less than preparation, evaluation and saving take; training goes on"
    )


def test_what_is_weak_even_with_all_steps() -> None:
    plan = plan_time([unit("a", curve=replace(CURVE, points=CURVE.points[:2]))], 1000.0)
    assert describe_plan(plan)[-1] == "warning: a will be weak even with these steps"


def test_only_notable_changes_are_told() -> None:
    old, new = (plan_time([unit("a", fixed=NOTHING), unit("b", fixed=NOTHING)], seconds) for seconds in (60.0, 64.0))
    assert describe_changes(old, new) == []
    (line,) = describe_changes(old, plan_time([unit("a", fixed=NOTHING), unit("b", fixed=NOTHING)], 30.0))
    assert line == "planned anew: a about 140 steps instead of 285, b about 140 steps instead of 285"


def test_a_plan_as_json() -> None:
    made = plan_time([unit("a"), unit("b", curve=None)], 100.0).as_json()
    assert list(made) == ["level", "seconds", "judging_seconds", "enough_seconds", "units"]
    assert list(made["units"][0]) == ["unit", "steps", "configured_steps", "seconds", "metric", "expected"]
    assert list(made["units"][0]["expected"]) == ["value", "verdict", "bound"]
    assert made["units"][1]["expected"] is None


@pytest.mark.parametrize(("seconds", "text"), [(40.4, "40 s"), (100, "2 min"), (3600, "60 min"), (9000, "2.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# First steps that take less


def test_first_steps_cost_their_share_of_a_step() -> None:
    cost = unit(fixed=NOTHING, first_steps=300, first_share=0.25)
    assert cost.seconds(600) == pytest.approx(300 * 0.25 * 0.1 + 300 * 0.1)
    assert cost.seconds(200) == pytest.approx(100 * 0.25 * 0.1 + 100 * 0.1)  # half at most
    assert cost.seconds(700) == pytest.approx(300 * 0.25 * 0.1 + 400 * 0.1)
    assert replace(cost, taken=100).seconds(700) == pytest.approx(200 * 0.25 * 0.1 + 400 * 0.1)
    assert replace(cost, taken=310).seconds(700) == pytest.approx(390 * 0.1)


def test_what_is_foreseen_follows_the_pace_and_leaves_the_plan_alone() -> None:
    made, clock, told = budget([unit("a"), unit("b"), unit("c", steps=300)], 200.0)
    planned = {each.unit: each.steps for each in made.plan.units}
    made.begin("a")
    made.refix("a", Speed(10, 0.3, None, 0.5))
    clock.now += 120
    told.clear()
    before = made.plan
    foreseen = made.foresee(["b"])
    assert list(foreseen) == ["b"]
    assert 0 < foreseen["b"] < planned["b"]
    assert (made.plan, told) == (before, [])
    assert made.begin("b").steps >= foreseen["b"]  # its data is ready now
