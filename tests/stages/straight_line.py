"""A stage in one file, as someone might add it: a straight line through noisy points."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.manifest.contents import DataContents
from omnictl.data.manifest.rows import BrokenRow
from omnictl.evaluation.talker import Judge
from omnictl.metrics import verdict
from omnictl.metrics.intervals import certain, mean
from omnictl.metrics.verdict import Bar
from omnictl.runs.model_folder import read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, TrainConfig
from omnictl.trainer.stage import Batches, LossSum, Report, Work

NUM_JUDGED = 50
SEEDS: Mapping[Split, int] = {"train": 0, "val": 1, "test": 2}


class PointsConfig(Config):
    """Which points."""

    source: str = "made up"
    noise: float = 0.1

    def with_source(self, source: str) -> "PointsConfig":
        """Other data, treated alike."""
        return self.model_copy(update={"source": source})


class LineConfig(Config):
    """Config of the line."""

    data: PointsConfig = PointsConfig()
    train: TrainConfig = TrainConfig()


PRESETS: Mapping[str, LineConfig] = {"debug": LineConfig(train=DEBUG_TRAINING.model_copy(update={"lr": 0.3}))}


class Points(NamedTuple):
    """Points of a split, made when they are asked for."""

    config: PointsConfig
    quarantine: Sequence[BrokenRow] = ()
    fingerprint: str = "made when it is asked for"

    @property
    def contents(self) -> DataContents:
        """See `StageData`."""
        return DataContents(self.fingerprint, {}, 0)

    def read(self, split: Split, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Places and heights `(B, 1)`."""
        pairs = [torch.randn(2, generator=torch.Generator().manual_seed(3 * n + SEEDS[split])) for n in numbers]
        x, noise = torch.stack(pairs).T.unsqueeze(-1)
        return x, 2 * x - 1 + self.config.noise * noise


class PointBatches(NamedTuple):
    """Points in their order."""

    points: Points
    batch_size: int
    typical_step: int = 0

    def ids(self, step: int) -> Sequence[int]:
        """See `Batches`."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `Batches`."""
        return self.points.read("train", ids)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """See `Batches`."""
        return [f"point {number}" for number in ids]

    def largest(self, size: int) -> Sequence[int]:
        """See `Batches`."""
        return range(size)


class StraightLine:
    """The line, its points, its loss."""

    name: ClassVar[str] = "straight_line"
    unit: ClassVar[str] = "points"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: LineConfig) -> None:
        self.config, self.data = config, Points(config.data)
        torch.manual_seed(config.train.seed)
        self.model = nn.Linear(1, 1)

    @classmethod
    def create(cls, config: LineConfig, *, context: StageContext) -> "StraightLine":
        """A fresh line, or another run's."""
        return context.start(cls(config))

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "StraightLine":
        """The line of a model folder."""
        return cls(read_config(folder, cls.name, LineConfig, source=data))

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds beside the weights."""
        write_description(folder, self.name, self.config)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run."""
        load_weights(run.model / "model.safetensors", self.model)

    def batches(self) -> PointBatches:
        """Points in their order."""
        return PointBatches(self.data, self.config.train.batch_size)

    def loss(self, batch: tuple[Tensor, Tensor]) -> LossSum:
        """Squared errors, counted in points."""
        x, y = (each.to(self.model.weight.device) for each in batch)
        return LossSum((self.model(x) - y).square().sum(), len(x), {})

    def work(self, batch: tuple[Tensor, Tensor]) -> Work:
        """Points, and a multiplication and an addition of each, three times."""
        count = len(batch[0])
        return Work(count, 6.0 * count, count, count)

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A batch at a time."""
        return (partial(self.loss, batches.collate(batches.largest(NUM_JUDGED))),)

    @torch.no_grad()
    def _errors(self, split: Split, number: int) -> Tensor:
        x, y = self.data.read(split, range(number))
        return (self.model(x.to(self.model.weight.device)).cpu() - y).square().squeeze(-1)

    def validate(self) -> Report:
        """The mean squared error on the validation split."""
        return Report("error", "lower", {"error": float(self._errors("val", NUM_JUDGED).mean())}, NUM_JUDGED)

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:
        """The mean squared error, compared with that of a line along the axis."""
        number = min(limit or NUM_JUDGED, NUM_JUDGED)
        _, y = self.data.read(split, range(number))
        flat = certain(float(y.square().mean()), number)
        estimate = mean(self._errors(split, number).numpy()).against("error_flat", flat, "lower")
        return Report(
            "error",
            "lower",
            {"error": estimate.value},
            number,
            controls={"error_flat": flat.value},
            predictions=[{"id": str(place), "reference": float(height)} for place, height in enumerate(y)],
            estimates={"error": estimate},
            verdict=verdict.judge("error", estimate, Bar("error", estimate, 0.5, "lower")),
        )


STAGE: type[TrainableStage] = StraightLine
