"""A stage as commands use it: created from a config, reopened from a run, evaluated on a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch

from omnictl.config.split import Split
from omnictl.data.manifest.contents import DataContents
from omnictl.data.manifest.rows import BrokenRow
from omnictl.evaluation.talker import Judge
from omnictl.runs.run import Run
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.plan.model_size_limit import limit_to_weights
from omnictl.trainer.stage import Report, Stage


@dataclass(frozen=True)
class StageContext:
    """What a stage is created with, besides its config."""

    cache: Path
    """The cache folder."""
    init: Run | None = None
    """A run of the same stage whose weights the new one starts from."""
    upstream: Mapping[str, Path] = field(default_factory=dict)
    """Model folders of the stages that it `needs`, by stage name."""

    def start(self, stage: "S") -> "S":
        """A fresh stage with the weights that it starts from.

        Raises:
            CheckpointError: the other run has no complete model, or one of another shape.
        """
        if self.init is not None:
            stage.take_weights(self.init)
        return stage


class StageData(Protocol):
    """The data of a stage."""

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Rows that are neither trained nor validated on, each with the reason."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what it holds; the same for data that was only copied or moved."""
        ...

    @property
    def contents(self) -> DataContents:
        """What it holds, the fingerprint included."""
        ...


class Startable(Protocol):
    """Something that can take over weights."""

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run of the same shape."""
        ...


S = TypeVar("S", bound=Startable)


class TrainableStage(Stage, Protocol):
    """What `omnictl STAGE` and `omnictl eval STAGE` require of a stage, beyond what the training loop requires."""

    needs: ClassVar[tuple[str, ...]]
    """The stages whose models it is built from."""
    config: Any
    """The resolved config, with a `train` section."""

    @property
    def data(self) -> StageData:
        """What it is trained and evaluated on."""
        ...

    @classmethod
    def create(cls, config: Any, *, context: StageContext) -> Self:
        """A fresh stage, or one that starts from the weights of another run; its data is opened and checked.

        Raises:
            DataError: the data cannot be read or does not suit the config.
            ConfigError: the other run does not suit the config.
            CheckpointError: the other run, or what it needs, has no complete model, or one of another shape.
        """
        ...

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> Self:
        """The stage of a model folder, without its weights, on its own data or on `data`.

        Raises:
            CheckpointError: it is not a model folder of this stage.
            DataError: the data cannot be read.
        """
        ...

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run of the same shape.

        Raises:
            CheckpointError: it has no complete model, or one of another shape.
        """
        ...

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:
        """Judge the model on a split in full, or on its first `limit` examples; headline metric first.

        Args:
            split: the split to judge on.
            limit: the number of examples to judge; None: no limit.
            judge: the recogniser that transcribes what the model says, if it speaks.
        """
        ...


T = TypeVar("T", bound=TrainableStage)


def open_trained(kind: type[T], run: Run, *, device: torch.device, cache: Path, data: str | None = None) -> T:
    """The stage of a run with its best model, in fp32 and for evaluation; as `open_model` with the run's model folder."""
    return open_model(kind, run.model, device=device, cache=cache, data=data)


def open_model(kind: type[T], folder: Path, *, device: torch.device, cache: Path, data: str | None = None) -> T:
    """The stage of a model folder with its weights, in fp32 and for evaluation.

    Args:
        kind: the stage.
        folder: the model folder of one of its runs, or a copy of it.
        device: where to compute.
        cache: folder of the cache.
        data: a data source other than the one it was trained on.

    Raises:
        CheckpointError: there is no complete model yet.
        DataError: the data cannot be read.
    """
    with limit_to_weights(folder):
        stage = kind.open(folder, data=data, cache=cache)
    load_weights(folder / "model.safetensors", stage.model)
    stage.model.to(device).eval()
    return stage
