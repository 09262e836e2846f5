"""How much of TinyWorld is made for few steps."""

from pathlib import Path

import pytest

from omnictl.pipeline.time_budget.data_budget import limit_data, steps_of_all_data
from omnictl.stages import command_recipe
from omnictl.stages.asr import PRESETS as ASR
from omnictl.stages.sft import PRESETS as SFT
from omnictl.stages.talker_recipe import PRESETS as TALKER
from omnictl.tinyworld.dialogues import TASKS


def test_utterances_are_those_that_the_steps_read_and_half_as_many_again() -> None:
    config = ASR["tiny"]
    batch = config.train.batch_size
    assert limit_data(config, {"asr": 40}, "asr").data.num_utterances == 40 * batch * 3 // 2
    assert limit_data(config, {"asr": 1}, "asr").data.num_utterances == 512
    assert limit_data(config, {"asr": 10**6}, "asr") == config
    assert steps_of_all_data(config) == -(-config.data.num_utterances // batch)


def test_dialogues_keep_their_proportions() -> None:
    data, first = SFT["tiny"].data, SFT["tiny"].exercise_steps  # in which nothing is looked at or listened to
    limited = limit_data(SFT["tiny"], {"sft": first + 400}, "sft").data
    shares = [limited.counts[task] / data.counts[task] for task in data.counts]
    assert 0 < min(shares) < 1
    assert min(shares) == pytest.approx(max(shares), abs=0.01)
    assert limited.num_pictures == data.num_pictures
    fewer = limit_data(SFT["tiny"], {"sft": first + 40}, "sft").data
    assert fewer.num_pictures == 40 * SFT["tiny"].train.batch_size * 3 // 2
    assert limited.num_eval_dialogues == data.num_eval_dialogues
    assert fewer.num_eval_dialogues == 40 * SFT["tiny"].train.batch_size // len(TASKS)
    assert limit_data(SFT["tiny"], {"sft": first + 1}, "sft").data.num_eval_dialogues == 64
    full = steps_of_all_data(SFT["tiny"])
    assert full is not None
    assert limit_data(SFT["tiny"], {"sft": full}, "sft").data.counts == data.counts


@pytest.mark.parametrize("weights", [dict.fromkeys(TASKS, 0.0), {"text": 1.0}])
def test_without_spoken_tasks_no_recordings_are_counted(weights: dict[str, float]) -> None:
    config = SFT["tiny"].model_copy(update={"data": SFT["tiny"].data.model_copy(update={"world_weights": weights})})
    assert steps_of_all_data(config) is None
    assert limit_data(config, {"sft": 5}, "sft").data == config.data


def test_parts_of_a_voice_share_what_the_greediest_reads() -> None:
    config = TALKER["tiny"]
    batches = {part: config.part(part).train.batch_size for part in config.parts}
    steps = {"codec": 50, "aligner": 1, "talker": 40}
    expected = max(steps[part] * batches[part] for part in steps) * 3 // 2
    assert limit_data(config, steps, "talker").data.num_utterances == expected


@pytest.mark.parametrize("stage", ["pretrain", "asr", "vision", "talker", "sft"])
def test_data_of_ones_own_is_not_touched(stage: str, tmp_path: Path) -> None:
    config = command_recipe(stage).presets["tiny"]
    own = config.model_copy(update={"data": config.data.model_copy(update={"source": str(tmp_path)})})  # type: ignore[attr-defined]
    assert limit_data(own, {stage: 1, "codec": 1, "aligner": 1}, stage) == own
