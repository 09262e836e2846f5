from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.mark.slow
def test_export_and_begin_from_it(omnictl: Command, trained: Path, tmp_path: Path) -> None:
    ended = omnictl("export", "--to", "hf", "--out", tmp_path / "out", "--name", "mine", "--license", "mit", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["run"] == str(trained)
    assert {"config.json", "README.md"} <= set(ended.json["files"])
    assert all(one["difference"] <= one["allowed"] for one in ended.json["agreements"])
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()
    ended = omnictl("export", trained, "--to", "hf", "--out", tmp_path / "out")
    assert (ended.code, "is not empty" in ended.err) == (2, True)
    ended = omnictl("pretrain", "--preset", "debug", "--init", tmp_path / "out", "--max-steps", 1, "--json")
    assert ended.code == 0, ended.err
    (parent,) = ended.json["parents"].values()
    assert "_imported" in parent
    text = omnictl("export", parent, "--to", "hf", "--out", tmp_path / "again")
    assert "logits in transformers" in text.out
    assert "agrees with the run" in text.out


def test_it_does_not_replace_the_current_folder(omnictl: Command) -> None:
    ended = omnictl("export", "--to", "hf", "--out", ".", "--json")
    assert (ended.code, ended.json["error"]["where"]) == (2, "--out")
    assert "is the current folder" in ended.json["error"]["message"]


def test_a_run_that_is_not_there(omnictl: Command, tmp_path: Path) -> None:
    ended = omnictl("export", "--to", "hf", "--out", tmp_path / "out")
    assert ended.code == 4
    assert "no finished run of stage `sft` or `pretrain`" in ended.err
