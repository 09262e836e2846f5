"""How long the parts of a training take, from which what is left is planned."""

import statistics
from collections import deque
from dataclasses import dataclass


@dataclass
class Seconds:
    """How long the parts of this run take."""

    steps: deque[float]
    data: float = 0.0
    optimizer: float = 0.0
    """Both of the newest step."""
    evaluate: float = 0.0
    save: float = 0.0

    @property
    def step(self) -> float:
        """A typical recent step."""
        return statistics.median(self.steps) if self.steps else 0.0

    @property
    def slow_step(self) -> float:
        """A recent step, rather too long than too short."""
        return max(self.step, self.steps[-1]) if self.steps else 0.0

    def restart(self, step: float) -> None:
        """Forget the steps so far, which say nothing of those to come: one of these takes `step` seconds."""
        self.steps.clear()
        self.steps.append(step)
