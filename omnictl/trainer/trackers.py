"""Trackers of experiments beside a run's own logs: TensorBoard, trackio, Weights & Biases.

All are off unless asked for, and each writes to this machine: Weights & Biases sends to its servers only where `WANDB_MODE=online`
says so, and what it kept offline can be sent later with `wandb sync`.
"""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from omnictl.errors import ConfigError
from omnictl.runs.files import read_json
from omnictl.runs.run import Run
from omnictl.trainer.config import TrackerName

PROJECT = "omnictl"


class Tracker(Protocol):
    """Takes the figures of a training."""

    def log(self, step: int, values: Mapping[str, float], *, split: str) -> None:
        """Take the figures of a step: of training, or of a validation."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_trackers(names: Sequence[TrackerName], run: Run) -> list[Tracker]:
    """The trackers that were asked for, ready for a run's figures.

    Raises:
        ConfigError: one is not installed.
    """
    kinds: dict[TrackerName, type[TensorBoard] | type[Trackio] | type[WeightsAndBiases]] = {
        "tensorboard": TensorBoard,
        "trackio": Trackio,
        "wandb": WeightsAndBiases,
    }
    opened: list[Tracker] = []
    try:
        for name in dict.fromkeys(names):
            opened.append(kinds[name](run))  # noqa: PERF401  those that are open are closed again
    except ConfigError:
        close_trackers(opened)
        raise
    return opened


def close_trackers(trackers: Sequence[Tracker]) -> None:
    """Close them all."""
    for tracker in trackers:
        tracker.close()


class TensorBoard:
    """Events in the run's folder `tensorboard`."""

    def __init__(self, run: Run) -> None:
        self._writer: Any = _import("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(run.path / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float], *, split: str) -> None:
        """Write a scalar for each figure."""
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Flush the events."""
        self._writer.close()


class Trackio:
    """A database in the run's folder `trackio`; `TRACKIO_DIR=RUN/trackio trackio show` opens it."""

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("TRACKIO_DIR", str((run.path / "trackio").absolute()))  # read when it is imported
        self._run: Any = _import("trackio", "trackio").init(
            project=PROJECT, name=f"{run.stage}_{run.path.name}", config=_config(run), resume="allow", embed=False
        )

    def log(self, step: int, values: Mapping[str, float], *, split: str) -> None:
        """Log the figures of a step."""
        self._run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class WeightsAndBiases:
    """A run of Weights & Biases, kept in the run's folder `wandb`."""

    def __init__(self, run: Run) -> None:
        wandb = _import("wandb", "wandb")
        self._run: Any = wandb.init(
            project=PROJECT,
            name=f"{run.stage}_{run.path.name}",
            config=_config(run),
            dir=str(run.path.absolute()),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: Mapping[str, float], *, split: str) -> None:
        """Log the figures of a step; those of a validation join the training's of the same step."""
        self._run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def _config(run: Run) -> Any:
    return read_json(run.config_file) if run.config_file.is_file() else {}


def _import(module: str, name: TrackerName) -> Any:
    """A tracker's package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{name} is not installed",
            where="train.runtime.trackers",
            fix=f"pip install 'omnictl[{name}]', or leave it off: metrics.jsonl holds the same",
        ) from error
