"""A stage as commands use it: made from a config, taken up from a run, judged on a split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow
from omnictl.runs.run import Run
from omnictl.trainer.stage import Report, Stage


class Recipe(Protocol):
    """What a command's config may be."""

    config_type: ClassVar[type[Config]]
    presets: ClassVar[Mapping[str, Config]]


class TrainableStage(Recipe, Stage, Protocol):
    """What `omnictl STAGE` and `omnictl eval STAGE` ask of a stage, beyond what the loop asks."""

    needs: ClassVar[tuple[str, ...]]
    """The stages whose models it is made from."""
    config: Any
    """The resolved config, with a `train` section."""

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Rows of the data that were set aside, each with the reason."""
        ...

    @classmethod
    def create(cls, config: Any, *, cache: Path, init: Run | None = None) -> Self:
        """A fresh stage, or one that starts from the weights of the run `init`; its data is opened and checked.

        Raises:
            DataError: the data cannot be read or does not suit the config.
            CheckpointError: `init` has no whole model, or one of another shape.
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
            CheckpointError: it has no whole model, or one of another shape.
        """
        ...

    def evaluate(self, split: Split, *, limit: int | None) -> Report:
        """Judge the model on a split in full, or on its first `limit` examples; headline metric first."""
        ...
