"""What a corpus of images is, labelled and captioned, in three splits, and the settings that choose one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omnictl.config.base import Config
from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow

Pixels = NDArray[np.uint8]

Int64 = NDArray[np.int64]

MOST_CLASSES = 1_000
"""Combinations of values that `top1` can be asked of."""


class ImageDataConfig(Config):
    """Which images, how they are split, and how they are varied in training."""

    source: str = Field(
        "tinyworld", description="a manifest, class folders or captioned images; tinyworld, or tinyworld:SEED for another draw"
    )
    num_eval_images: int = Field(
        2_000, ge=2, le=10_000_000, description="test scenes of TinyWorld, and half as many validation ones"
    )
    val_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share validated on; null: 0.05, unless rows name their split"
    )
    test_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share kept for the test; null: 0.05, or none if rows name their split"
    )
    top1: tuple[str, ...] = Field(
        (),
        description="attributes that `top1` wants right; none: the first ones, up to 1,000 combinations of values",
    )
    augmentation: Literal["auto", "none", "light", "strong"] = Field(
        "auto", description="how training images are varied; auto: light, TinyWorld's scenes not at all"
    )
    max_broken: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside before training refuses")

    def with_source(self, source: str) -> "ImageDataConfig":
        """Other data, treated alike."""
        return self.model_copy(update={"source": source})


class ImageExample(NamedTuple):
    """One image as the model sees it."""

    image: Pixels  # (3, S, S) RGB
    patches: Int64  # (P, A) attributes of what each merged patch shows; (0, 0) if that is not known


class ImageRecord(NamedTuple):
    """What is known of an image; the image itself is left where it is."""

    id: str
    where: str
    labels: Mapping[str, str]
    caption: str | None
    image: Path | None
    """Its file, if it has one."""


class ImageSet(Protocol):
    """The usable images of a split."""

    @property
    def set_aside(self) -> Sequence[BrokenRow]:
        """Rows of the split that cannot be used, each with the reason."""
        ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> ImageRecord:
        """What is known of an image."""
        ...

    def example(self, index: int, view: "View", seed: Sequence[int] | None = None) -> ImageExample:
        """An image, varied as that seed says, or (None) as it is."""
        ...


class View(NamedTuple):
    """The image size and patch grid that a model reads."""

    size: int  # pixels of a side
    grid: int  # merged patches along a side


class ImageCorpus(Protocol):
    """Labelled and captioned images in splits."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """The values that each attribute has in training, in the order of their numbers."""
        ...

    @property
    def patch_attributes(self) -> Mapping[str, tuple[str, ...]]:
        """The same of what a patch shows; none if that is not known."""
        ...

    @property
    def top1(self) -> tuple[str, ...]:
        """The attributes that name an image's class."""
        ...

    @property
    def broken(self) -> Sequence[BrokenRow]:
        """Rows whose image, labels and caption cannot be used, whatever their split."""
        ...

    def images(self, split: Split, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> ImageSet:
        """The images of a split that have what is needed, and no other label than the `known` ones.

        Raises:
            DataError: there is none.
        """
        ...

    @property
    def unseen(self) -> frozenset[tuple[str, ...]]:
        """Combinations of values of the `top1` attributes, each known, that training never shows together."""
        ...

    def captions(self) -> Iterator[str]:
        """Captions of the training split to learn a vocabulary from.

        Raises:
            DataError: there is none.
        """
        ...
