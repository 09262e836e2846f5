"""The time of a training: the steps that are planned for it, and how often it is evaluated so that evaluations cost little.

Pure arithmetic, without torch: `pipeline/time_budget` plans with it, `trainer/trainer.py` follows the plan.
"""

import math
from typing import NamedTuple, Protocol

EVALUATION_SHARE = 0.1
"""With a deadline: share of the steps' time that evaluations before the last one may take."""

LEAST_SHARE = 0.1
"""Share of the planned steps that is taken even if that is too late."""


class StepPlan(NamedTuple):
    """The steps planned for a training, and the figures that they were planned with."""

    steps: int
    """In all, those of an earlier part of the same run included."""
    deadline: float
    """When the training must have ended, on `time.monotonic`'s clock."""
    least_steps: int
    """Taken even if that is too late."""
    step_seconds: float
    evaluation_seconds: float
    """Of one validation."""


class Speed(NamedTuple):
    """The measured times of a training so far."""

    step: int
    """Steps taken so far."""
    step_seconds: float
    evaluation_seconds: float | None
    """Of one validation; None if there was none."""
    save_seconds: float


class StepPlanner(Protocol):
    """Shares out the available time among trainings."""

    def begin(self) -> StepPlan:
        """The plan, when all is ready for the next step."""
        ...

    def refix(self, speed: Speed) -> StepPlan:
        """The plan, once the real speed is known."""
        ...


class Evaluations(NamedTuple):
    """When a training is evaluated; after its last step it always is."""

    untrained: bool
    """Whether before the first step, too."""
    every: int
    """Steps from one to the next."""


def plan_evaluations(eval_every: int, *, steps: int, step_seconds: float, evaluation_seconds: float) -> Evaluations:
    """As many evaluations as configured, but before the last one only so many as `EVALUATION_SHARE` allows.

    Args:
        eval_every: configured steps from one to the next.
        steps: of the whole training.
        step_seconds: what a step takes.
        evaluation_seconds: what an evaluation takes.
    """
    if evaluation_seconds <= 0:
        return Evaluations(untrained=True, every=eval_every)
    affordable = int(EVALUATION_SHARE * steps * step_seconds / evaluation_seconds)
    return Evaluations(affordable >= 1, max(eval_every, math.ceil(steps / max(1, affordable))))
