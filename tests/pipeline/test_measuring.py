"""How many examples are judged in the time given, and how a deadline is shared out."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from omnictl.pipeline.measuring import _as_much_as_fits
from omnictl.pipeline.sharing import share


class Clock:
    """Time that passes only where work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def judge(clock: Clock, *, split: int, opening: float, each: float) -> tuple[list[int], Any]:
    """A judge that takes some seconds to begin and some for each example, and what it was asked for."""
    asked: list[int] = []

    def judged(limit: int) -> Any:
        asked.append(limit)
        seen = min(limit, split)
        clock.now += opening + each * seen
        return SimpleNamespace(report=SimpleNamespace(num_examples=seen))

    return asked, judged


@pytest.mark.parametrize(("opening", "each"), [(0.0, 0.5), (10.0, 0.1), (3.0, 0.01)])
def test_the_deadline_is_kept_and_the_time_used(clock: Clock, opening: float, each: float) -> None:
    asked, judged = judge(clock, split=10**9, opening=opening, each=each)
    found = _as_much_as_fits(judged, until=120.0)
    assert clock.now <= 120
    assert clock.now > 40
    assert found.report.num_examples == asked[-1] > 8
    assert asked == sorted(asked)


def test_a_whole_split_is_enough(clock: Clock) -> None:
    asked, judged = judge(clock, split=100, opening=0, each=0.01)
    assert _as_much_as_fits(judged, until=1e6).report.num_examples == 100
    assert asked == [8, 32, 128]


def test_without_time_a_few_examples_are_judged(clock: Clock) -> None:
    asked, judged = judge(clock, split=100, opening=1, each=1)
    clock.now = 50.0
    assert _as_much_as_fits(judged, until=20.0).report.num_examples == 8
    assert asked == [8]


def test_shares_add_up(clock: Clock) -> None:
    shares = [5.0, 3.0, 2.0]
    for number, expected in enumerate([50.0, 80.0, 100.0]):
        clock.now = share(100.0, shares[number:])
        assert clock.now == pytest.approx(expected)


def test_what_is_left_is_for_the_next(clock: Clock) -> None:
    clock.now = 10.0
    assert share(100.0, [3.0, 2.0]) == pytest.approx(64.0)
