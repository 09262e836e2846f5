"""The commands that are suggested after a training."""

from pathlib import Path

import pytest

from omnictl.cli.train.next_steps import longer_command
from omnictl.runs.files import write_text
from omnictl.runs.run import Run, create_run


def test_the_folder_of_runs_is_named_if_it_is_not_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(tmp_path / "runs", "asr", "a", {"parents": {}})
    write_text(run.whole_config_file, "{}")
    monkeypatch.setenv("OMNICTL_RUNS", str(tmp_path / "runs"))
    assert "--runs" not in longer_command(run, 3)
    monkeypatch.delenv("OMNICTL_RUNS")
    monkeypatch.chdir(run.path)
    assert longer_command(Run(Path()), 3) == f"omnictl asr --config whole_config.json --init . --name a --runs {tmp_path / 'runs'}"
    monkeypatch.chdir(tmp_path)
    assert "--runs" not in longer_command(Run(Path("runs") / "asr" / run.path.name), 3)
