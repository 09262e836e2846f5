"""The cheaper steps with which a training begins, and how many are left of them in a short one."""

from pathlib import Path

import pytest

from omnictl.pipeline.time_budget.costs import MOST_FIRST_STEPS
from omnictl.pipeline.time_budget.first_steps import (
    EXERCISE_SHARE,
    EXERCISES,
    PROJECTORS_SHARE,
    first_steps,
    shorten_first_steps,
)
from omnictl.stages.asr import PRESETS as ASR
from omnictl.stages.sft import PRESETS as SFT


def test_exercises_and_projectors_are_counted() -> None:
    config = SFT["tiny"]
    found = first_steps(config)
    assert found.steps == config.exercise_steps + config.projector_steps
    whole = EXERCISE_SHARE * config.exercise_steps + PROJECTORS_SHARE * config.projector_steps
    assert found.share * found.steps == pytest.approx(whole)
    assert first_steps(ASR["tiny"]) == (0, 1.0)


def test_data_of_ones_own_has_no_exercises(tmp_path: Path) -> None:
    config = SFT["tiny"]
    own = config.model_copy(update={"data": config.data.model_copy(update={"source": str(tmp_path)})})
    assert first_steps(own) == (config.projector_steps, pytest.approx(PROJECTORS_SHARE))


def test_a_long_training_has_all_of_them() -> None:
    config = SFT["tiny"]
    enough = int(first_steps(config).steps / MOST_FIRST_STEPS) + 1
    assert shorten_first_steps(config, {"sft": enough}, "sft") == config
    assert shorten_first_steps(config, {}, "sft") == config
    assert shorten_first_steps(ASR["tiny"], {"asr": 1}, "asr") == ASR["tiny"]


@pytest.mark.parametrize("steps", [1, 10, 100, 400])
def test_a_short_training_has_fewer_in_proportion(steps: int) -> None:
    config = SFT["tiny"]
    short = shorten_first_steps(config, {"sft": steps}, "sft")
    assert first_steps(short).steps <= MOST_FIRST_STEPS * steps
    fraction = MOST_FIRST_STEPS * steps / first_steps(config).steps
    for name in ("projector_steps", *EXERCISES):
        assert getattr(short, name) == int(fraction * getattr(config, name))
    assert short.train == config.train
