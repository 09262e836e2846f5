import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnictl.config import to_json
from omnictl.stages.pretrain import PRESETS

Command = Callable[..., Any]


@pytest.mark.parametrize("preset", PRESETS)
def test_show_prints_a_preset(omnictl: Command, preset: str) -> None:
    ended = omnictl("config", "show", "pretrain", "--preset", preset)
    assert (ended.code, ended.out, ended.err) == (0, to_json(PRESETS[preset]), "")


def test_show_prints_the_default_preset(omnictl: Command) -> None:
    assert omnictl("config", "show", "pretrain").out == to_json(PRESETS["tiny"])


def test_what_is_shown_is_a_config_file_that_resolves_to_the_same(omnictl: Command, tmp_path: Path) -> None:
    shown = omnictl("config", "show", "pretrain", "--preset", "debug", "--set", "train.lr=1e-3").out
    (tmp_path / "mine.json").write_text(shown)
    assert json.loads(shown)["train"]["lr"] == 1e-3
    assert omnictl("config", "show", "pretrain", "--config", "mine.json").out == shown


def test_a_later_setting_wins(omnictl: Command) -> None:
    ended = omnictl("config", "show", "pretrain", "--set", "train.steps=3", "--set", "train.steps=4")
    assert json.loads(ended.out)["train"]["steps"] == 4


def test_schema_has_every_key_with_its_meaning(omnictl: Command) -> None:
    schema = json.loads(omnictl("config", "schema", "pretrain").out)
    assert set(schema["properties"]) == {"model", "data", "train"}
    train = schema["$defs"]["TrainConfig"]
    assert train["properties"]["lr"]["description"] == "peak learning rate of AdamW"
    assert train["additionalProperties"] is False


def test_describe_lists_settings_with_type_bounds_default_and_meaning(omnictl: Command) -> None:
    described = json.loads(omnictl("config", "describe", "pretrain", "train.schedule", "--json").out)
    assert described["settings"][1] == {
        "key": "train.schedule.decay_fraction",
        "type": "number",
        "bounds": "≥ 0, ≤ 1",
        "default": 0.4,
        "description": "share of the steps over which the rate falls to zero",
        "required": False,
    }
    shown = omnictl("config", "describe", "pretrain", "train.lr").out
    assert "peak learning rate of AdamW" in shown
    assert "number > 0" in shown
    assert "train.steps" not in shown


def test_describe_suggests_the_key_that_was_meant(omnictl: Command) -> None:
    ended = omnictl("config", "describe", "pretrain", "train.learning_rate")
    assert ended.code == 2
    assert "stage `pretrain` has no setting 'train.learning_rate', did you mean train.lr?" in ended.err
    assert "`omnictl config describe pretrain` lists all of them" in ended.err


def test_diff_of_presets_files_and_runs(omnictl: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(omnictl("config", "show", "pretrain", "--preset", "debug", "--set", "train.lr=1e-3").out)
    assert omnictl("config", "diff", "pretrain", "debug", "mine.json").out == "train.lr: 0.01 -> 0.001\n"
    assert omnictl("config", "diff", "pretrain", "debug", trained).out == ""
    lines = omnictl("config", "diff", "pretrain", "debug", "tiny").out.splitlines()
    assert "model.width: 32 -> 256" in lines


def test_diff_with_something_that_is_not_there(omnictl: Command) -> None:
    ended = omnictl("config", "diff", "pretrain", "tiny", "mine.json")
    assert ended.code == 2
    assert "'mine.json' is neither a preset (debug, tiny, small) nor a config file nor a run's folder" in ended.err


@pytest.mark.parametrize("command", ["show", "schema", "describe"])
def test_an_unknown_stage(omnictl: Command, command: str) -> None:
    ended = omnictl("config", command, "pretrian")
    assert ended.code == 2
    assert "there is no stage 'pretrian', expected one of: pretrain" in ended.err
