"""Trained models, to be judged or used."""

from pathlib import Path
from typing import Protocol, Self, TypeVar

import torch
from torch import nn

from omnictl.runs.run import Run
from omnictl.trainer.checkpoint import load_weights


class Openable(Protocol):
    """What of a stage it takes; see `omnictl.stages.protocol`."""

    @property
    def model(self) -> nn.Module:
        """What was trained."""
        ...

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> Self:
        """The stage of a model folder, without its weights."""
        ...


S = TypeVar("S", bound=Openable)


def open_trained(kind: type[S], run: Run, *, device: torch.device, cache: Path, data: str | None = None) -> S:
    """The stage of a run with its best model, in fp32 and for evaluation; as `open_model` with the run's model folder."""
    return open_model(kind, run.model, device=device, cache=cache, data=data)


def open_model(kind: type[S], folder: Path, *, device: torch.device, cache: Path, data: str | None = None) -> S:
    """The stage of a model folder with its weights, in fp32 and for evaluation.

    Args:
        kind: the stage.
        folder: that one of its runs has made, or a copy of it.
        device: where to compute.
        cache: folder of the cache.
        data: another data source than the one it was trained on.

    Raises:
        CheckpointError: there is no whole model yet.
        DataError: the data cannot be read.
    """
    stage = kind.open(folder, data=data, cache=cache)
    load_weights(folder / "model.safetensors", stage.model)
    stage.model.to(device).eval()
    return stage
