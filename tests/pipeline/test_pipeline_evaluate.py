"""How many examples are judged in the time given."""

import time
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from omnictl.pipeline import evaluate
from omnictl.pipeline.sample_size import Goal, GrowingSample


class Clock:
    """Time that passes only where work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def judge(clock: Clock, *, split: int, opening: float, each: float, wanted: int = 10**9) -> tuple[list[int], Any]:
    """A judge that takes some seconds to begin and some for each example, and what it was asked for."""
    asked: list[int] = []

    def judged(limit: int) -> Any:
        asked.append(limit)
        seen = min(limit, split)
        clock.now += opening + each * seen
        return SimpleNamespace(num=seen, is_whole_split=limit > split, is_narrow=seen >= wanted, wanted_examples=wanted)

    return asked, judged


@pytest.mark.parametrize(("opening", "each"), [(0.0, 0.5), (10.0, 0.1), (3.0, 0.01)])
@pytest.mark.parametrize("goal", ["narrow interval", "whole split"])
def test_the_deadline_is_kept_and_the_time_used(clock: Clock, opening: float, each: float, goal: Goal) -> None:
    asked, judged = judge(clock, split=10**9, opening=opening, each=each)
    sample = GrowingSample(judged, first=8)
    sample.grow(goal, until=120.0)
    assert clock.now <= 120
    assert clock.now > 40
    assert cast("Any", sample.evaluation).num == asked[-1] > 8
    assert asked == sorted(asked)
    assert not sample.has_reached(goal)


def test_a_whole_split_is_enough(clock: Clock) -> None:
    asked, judged = judge(clock, split=100, opening=0, each=0.01)
    sample = GrowingSample(judged, first=8)
    sample.grow("narrow interval", until=1e6)
    assert asked == [8, 32, 128]
    assert sample.has_reached("narrow interval")
    assert sample.has_reached("whole split")


def test_no_more_is_judged_than_the_interval_needs(clock: Clock) -> None:
    asked, judged = judge(clock, split=10**6, opening=1, each=0.01, wanted=50)
    sample = GrowingSample(judged, first=8)
    sample.grow("narrow interval", until=1e6)
    assert asked == [8, 32, 60]
    sample.grow("narrow interval", until=1e6)
    assert len(asked) == 3
    sample.grow("whole split", until=clock.now + 20)
    assert asked[3:] == [240, 960]


def test_without_time_a_few_examples_are_judged(clock: Clock) -> None:
    asked, judged = judge(clock, split=100, opening=1, each=1)
    clock.now = 50.0
    sample = GrowingSample(judged, first=8)
    sample.grow("narrow interval", until=20.0)
    sample.grow("whole split", until=20.0)
    assert asked == [8]


class Stage(NamedTuple):
    """A run of some stage."""

    path: str
    stage: str = "talker"  # of which 8 examples are judged first


def test_time_goes_first_to_what_every_interval_needs(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stage is cheap and exact after ten examples, one is costly, one is over soon."""
    asked: dict[str, list[int]] = {}
    judges: dict[str, Any] = {}
    for name, each, split, wanted in (("cheap", 0.01, 10**6, 10), ("costly", 1.0, 10**6, 90), ("short", 0.01, 20, 10**9)):
        asked[name], judges[name] = judge(clock, split=split, opening=0, each=each, wanted=wanted)
    monkeypatch.setattr(evaluate, "_judge", lambda run, judge, how, limit: judges[run.path](limit))
    monkeypatch.setattr(evaluate, "write_report", lambda run: None)
    how: Any = SimpleNamespace(tell=lambda text: None)
    listeners: Any = {Stage(name): None for name in judges}
    evaluations: list[Any] = evaluate._measure_in_time(listeners, how, deadline=300.0)
    assert clock.now <= 300
    assert asked["cheap"][:2] == [8, 12]
    assert evaluations[0].num > 500  # there was time left
    assert evaluations[1].is_narrow
    assert evaluations[2].num == 20
