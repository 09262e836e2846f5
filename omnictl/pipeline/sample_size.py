"""How many examples are judged where time is short: as many as an interval needs, and more only if the time allows it."""

import time
from collections.abc import Callable
from typing import Literal

from omnictl.measure.evaluate import Evaluation

GROWTH = 4.0
"""So many times more examples at most are judged next, if the time allows it: what is judged again costs a third at most."""

LEAST_GROWTH = 1.5
"""What is not worth doing all of it again."""

TIME_RESERVE = 0.2
"""Share of the time left that is not planned with."""

FIXED_SHARE = 0.5
"""Share of the first pass's time that every pass is assumed to need, whatever it judges: to open files and draw images."""

SPARE = 1.2
"""Times as many examples as the interval seems to need: it shrinks only on average with their square root."""

Goal = Literal["narrow interval", "whole split"]


class GrowingSample:
    """A run judged on more and more of its split.

    Args:
        judge: judges so many examples of it, all of them anew.
        first: so many are judged first.
    """

    def __init__(self, judge: Callable[[int], Evaluation], first: int) -> None:
        self._judge = judge
        self._limit, self._seconds, self._fixed = first, 0.0, 0.0
        self._evaluation: Evaluation | None = None

    @property
    def evaluation(self) -> Evaluation:
        """The last and largest one."""
        assert self._evaluation is not None, "it has not grown yet"
        return self._evaluation

    def has_reached(self, goal: Goal) -> bool:
        """Whether there is nothing left to judge for that."""
        if self._evaluation is None:
            return False
        return self.evaluation.is_whole_split or (goal == "narrow interval" and self.evaluation.is_narrow)

    def grow(self, goal: Goal, until: float) -> None:
        """Judge more until the goal is reached, or the time until then would not suffice; a few examples in any case."""
        while not self.has_reached(goal):
            if self._evaluation is not None:
                growth = self._growth(goal, until)
                if growth < LEAST_GROWTH:
                    return
                self._limit = int(self._limit * growth)
            is_first, began = self._evaluation is None, time.monotonic()
            self._evaluation = self._judge(self._limit)
            self._seconds = time.monotonic() - began
            if is_first:
                self._fixed = FIXED_SHARE * self._seconds

    def _growth(self, goal: Goal, until: float) -> float:
        """By how much the time allows, and no more than the goal takes."""
        left = (until - time.monotonic()) * (1 - TIME_RESERVE)
        growing = max(self._seconds - self._fixed, FIXED_SHARE * self._seconds)  # what was opened once may be at hand now
        affordable = (left - self._fixed) / growing if self._seconds else GROWTH
        wanted = self.evaluation.wanted_examples if goal == "narrow interval" else None
        needed = GROWTH if wanted is None else max(LEAST_GROWTH, SPARE * wanted / self._limit)
        return min(GROWTH, affordable, needed)
