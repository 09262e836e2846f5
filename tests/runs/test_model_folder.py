import json
from pathlib import Path

import pytest

from omnictl import __version__
from omnictl.errors import CheckpointError, RunError
from omnictl.runs.model_folder import read_description, write_description
from omnictl.trainer.config import ScheduleConfig


def test_a_description_comes_back(tmp_path: Path) -> None:
    write_description(tmp_path / "model", "pretrain", ScheduleConfig(), vocab_size=9)
    found = read_description(tmp_path / "model", "pretrain")
    assert found == {
        "format": 1,
        "stage": "pretrain",
        "omnictl": __version__,
        "vocab_size": 9,
        "config": {"warmup_steps": 20, "decay_fraction": 0.4},
    }


@pytest.mark.parametrize("exists", [True, False])
def test_any_folder_is_not_a_model_folder(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(CheckpointError) as caught:
        read_description(folder, "pretrain")
    assert caught.value.message == f"{folder} is not a model folder: it has no config.json"
    assert caught.value.fix == "name a run of `omnictl pretrain`, or its model folder"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"format": 1, "stage": "asr"}, "{'format': 1, 'stage': 'asr'}"),
        ({"format": 2, "stage": "pretrain"}, "{'format': 2, 'stage': 'pretrain'}"),
        ({"architectures": ["Qwen3ForCausalLM"]}, "{'format': None, 'stage': None}"),
        ([1], "[1]"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: object, shown: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        read_description(tmp_path, "pretrain")
    path = tmp_path / "config.json"
    assert caught.value.message == f"{path} describes {shown}, expected format 1 of stage `pretrain`"
    assert caught.value.fix == "name a run made by `omnictl pretrain` of this version"


def test_a_torn_description_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1,')
    with pytest.raises(RunError, match=r"cannot read .*config\.json"):
        read_description(tmp_path, "pretrain")
