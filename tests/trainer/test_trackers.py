"""Trackers, each through a stand-in for its package, which records what it is given."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from omnictl.errors import ConfigError
from omnictl.runs.run import Run, create_run
from omnictl.trainer.config import RuntimeConfig
from omnictl.trainer.log import RunLog
from omnictl.trainer.trackers import open_trackers


class Package(ModuleType):
    """Records calls of `init`, `log` and `finish`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []
        self.Settings = SimpleNamespace

    def init(self, **settings: Any) -> "Package":
        self.calls.append(("init", settings))
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", (step, values)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = create_run(tmp_path, "asr", "tiny", {})
    made.config_file.write_text(json.dumps({"train": {"lr": 0.1}}))
    return made


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_figures_reach_a_tracker_beside_the_log(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package(name)
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setenv("TRACKIO_DIR", "kept")
    log = RunLog(run, [name])  # type: ignore[list-item]
    log.metrics(1, {"loss": 2.5}, split="train")
    log.timings(1, {"seconds": 0.5})
    log.metrics(1, {"wer": 0.75}, split="val")
    log.close()
    kinds, given = zip(*package.calls, strict=True)
    assert kinds == ("init", "log", "log", "log", "finish")
    assert given[0]["config"] == {"train": {"lr": 0.1}}
    assert given[0]["name"] == f"asr_{run.path.name}"
    assert given[1:4] == ((1, {"train/loss": 2.5}), (1, {"speed/seconds": 0.5}), (1, {"val/wer": 0.75}))
    assert len(run.metrics_file.read_text().splitlines()) == 2


def test_weights_and_biases_stay_offline_unless_told_otherwise(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("wandb")
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    open_trackers(["wandb"], run)
    monkeypatch.setenv("WANDB_MODE", "online")
    open_trackers(["wandb"], run)
    assert [settings["mode"] for _, settings in package.calls] == ["offline", "online"]
    assert {settings["dir"] for _, settings in package.calls} == {str(run.path)}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_and_the_others_closed(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"wandb": "trackio", "trackio": "wandb"}[name]
    package = Package(other)
    monkeypatch.setitem(sys.modules, other, package)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"{name} is not installed") as caught:
        open_trackers([other, name], run)  # type: ignore[list-item]
    assert caught.value.fix == f"pip install 'omnictl[{name}]', or leave it off: metrics.jsonl holds the same"
    assert package.calls[-1][0] == "finish"


def test_the_older_setting_is_read() -> None:
    assert RuntimeConfig().trackers == ()
    assert RuntimeConfig.model_validate({"tensorboard": True}).trackers == ("tensorboard",)
    assert RuntimeConfig.model_validate({"tensorboard": True, "trackers": ["wandb"]}).trackers == ("wandb", "tensorboard")
    assert RuntimeConfig.model_validate({"tensorboard": False}).trackers == ()
