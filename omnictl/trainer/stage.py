"""The protocol of a stage, as the loop uses it: one loss, one optimizer, one checkpoint, one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

from omnictl.metrics.intervals import Estimate
from omnictl.metrics.verdict import Verdict


@dataclass(frozen=True)
class LossSum:
    """A loss as a sum and a count, so that any split into micro-batches gives the same gradient.

    `sum` is differentiable; `count` is what it is divided by over the whole batch; `scalars` are further detached sums
    over the same count, for the log.
    """

    sum: Tensor
    count: int
    scalars: Mapping[str, Tensor]


class Work(NamedTuple):
    """The amount of work in a micro-batch; all of it adds up over micro-batches."""

    units: float  # tokens, images, seconds of audio
    flops: float  # floating-point operations of the forward and the backward pass, padding not counted
    positions: int  # places of the batch that hold data
    slots: int  # places of the batch, padding included

    def plus(self, other: "Work") -> "Work":
        """Both together."""
        return Work(self.units + other.units, self.flops + other.flops, self.positions + other.positions, self.slots + other.slots)


NO_WORK = Work(0.0, 0.0, 0, 0)


@dataclass(frozen=True)
class Report:
    """The results of an evaluation. Rates are fractions."""

    headline: str
    better: Literal["lower", "higher"]
    metrics: Mapping[str, float]
    num_examples: int
    controls: Mapping[str, float] = field(default_factory=dict)
    predictions: Sequence[Mapping[str, object]] = ()
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The metrics of parts of the examples, such as one speaker's."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Further files of the report, for people to read: name and content."""
    images: Mapping[str, bytes] = field(default_factory=dict)
    """PNG files of the report by name."""
    audio: Mapping[str, bytes] = field(default_factory=dict)
    """WAV files of the report by name."""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """How exact the metrics are that are rates, means or ratios of examples, and what they are compared with; not in validation."""
    verdict: Verdict | None = None
    """Whether the stage has learned; not in validation."""

    @property
    def value(self) -> float:
        """The headline metric."""
        return self.metrics[self.headline]


class Batches(Protocol):
    """The order of training examples and how to make a batch of some of them.

    Both are pure functions: a resumed run needs no more than its step number to go on with the same data.
    """

    def ids(self, step: int) -> Sequence[int]:
        """The examples of the whole batch of a step (0-based)."""
        ...

    def collate(self, ids: Sequence[int]) -> Any:
        """A micro-batch of these examples."""
        ...

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each of these examples stands in its corpus, for people."""
        ...

    @property
    def typical_step(self) -> int:
        """A step (0-based) whose batch is as large as any and like most: it is what is timed and planned with."""
        ...

    def largest(self, size: int) -> Sequence[int]:
        """So many examples, at most a whole batch, that take as much memory together as any do."""
        ...


class Stage(Protocol):
    """A training stage."""

    name: ClassVar[str]
    unit: ClassVar[str]
    """What speed is counted in: "tokens", "images", "seconds" of audio."""

    @property
    def model(self) -> nn.Module:
        """What is optimised and saved."""
        ...

    @property
    def divisible(self) -> bool:
        """Whether the loss of a batch is the sum over its micro-batches."""
        ...

    def batches(self) -> Batches:
        """The training batches."""
        ...

    def loss(self, batch: Any) -> LossSum:
        """Loss of one micro-batch, on the model's device."""
        ...

    def work(self, batch: Any) -> Work:
        """What one micro-batch amounts to."""
        ...

    def validate(self) -> Report:
        """The validation split, cheaply: called during training, deterministic."""
        ...

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """The passes of its evaluation and generation that take the most memory, with contents that do not matter."""
        ...

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds beside the weights: config, tokenizer."""
        ...


def pass_of(stage: Stage, batches: Batches, slots: int) -> Callable[[], object]:
    """A pass of as many of the largest examples as have so many slots, at least one."""
    largest = batches.largest(1)
    size = -(-slots // stage.work(batches.collate(largest)).slots)
    return partial(stage.loss, batches.collate([*largest] * max(1, size)))
