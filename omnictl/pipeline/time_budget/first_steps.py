"""The steps with which a training begins, which take less time than the others: lessons, exercises, projectors alone.

Where time is short there are fewer of them, so that steps are left in which the rest is learned.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from omnictl.config import Config
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.pipeline.time_budget.costs import MOST_FIRST_STEPS

if TYPE_CHECKING:
    from omnictl.data.text.corpus import CurriculumConfig

PROJECTORS_SHARE = 0.2
"""Time of a step in which only projectors learn, without the Thinker, as a share of a full step's."""

EXERCISE_SHARE = 0.65
"""The same for a step in which words stand for images and recordings, of which fewer are needed."""

OPTIMIZER_SHARE = 0.15
"""Share of a step's time that does not shrink with the number of examples in its batch."""

EXERCISES = ("conclusion_steps", "lookup_steps", "imitation_steps")
"""Settings of a dialogue stage that only TinyWorld's data heeds."""

C = TypeVar("C", bound=Config)


class FirstSteps(NamedTuple):
    """The first steps of a training."""

    steps: int
    share: float
    """Time of one of them as a share of a later step's."""


def first_steps(config: Any) -> FirstSteps:
    """The first steps of a training, as its config has them.

    Args:
        config: of a unit, with `data` and `train`.
    """
    generated = tinyworld_seed(config.data.source) is not None
    projectors = int(getattr(config, "projector_steps", 0))
    exercises = int(getattr(config, "exercise_steps", 0)) if generated else 0
    if count := projectors + exercises:
        return FirstSteps(count, (projectors * PROJECTORS_SHARE + exercises * EXERCISE_SHARE) / count)
    curriculum: CurriculumConfig | None = getattr(config.data, "curriculum", None)
    if curriculum is None or not curriculum.steps or not generated:
        return FirstSteps(0, 1.0)
    read = curriculum.windows / (curriculum.steps * config.train.batch_size)  # of what a later step reads
    return FirstSteps(curriculum.steps, min(1.0, OPTIMIZER_SHARE + read))


def shorten_first_steps(config: C, steps: Mapping[str, int], command: str) -> C:
    """The config with no more exercises, and steps of projectors alone, than leave a share of its planned steps for the rest.

    Args:
        config: of the command.
        steps: planned, by unit.
        command: what trains the units.
    """
    planned, count = steps.get(command), first_steps(config).steps if hasattr(config, "projector_steps") else 0
    if planned is None or count <= MOST_FIRST_STEPS * planned:
        return config
    fraction = MOST_FIRST_STEPS * planned / count
    settings = ("projector_steps", *EXERCISES)
    return config.model_copy(update={name: int(fraction * getattr(config, name)) for name in settings})
