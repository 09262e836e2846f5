"""Batches of images, in an order that is a function of the seed and the position alone.

As elsewhere there is no cursor to save: a step's example ids follow from its number, and a batch, augmentation included, from its
ids. An image is mixed with one drawn from the whole set, not with its neighbour in the batch, so that a batch can be split.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnictl.data.images.augmentation import Mixing, mix
from omnictl.data.images.corpus import ImageSet, Int64, View
from omnictl.data.images.tinyworld import ENDLESS

MIXED = 0.5
"""Share of the images that are mixed with another, half of these blended, half cut."""

MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
"""As in the papers: weak blends, cuts of any size."""

UNKNOWN = -1
"""The number of a value that is not known; no loss is taken for it."""


@dataclass(frozen=True)
class ImageBatch:
    """Images side by side."""

    images: Tensor
    """(B, 3, S, S) uint8 RGB"""
    labels: Tensor
    """(B, A) int64, the number of each attribute's value, -1 where it is not known"""
    others: Tensor
    """(B, A) int64, the labels of what was mixed in"""
    shares: Tensor
    """(B,) fp32, of the image itself; 1 if nothing was mixed in"""
    patches: Tensor
    """(B, P, A') int64, the same of what each patch shows; (B, 0, 0) if that is not known"""
    captions: tuple[str, ...]
    """B texts, empty where there is none"""


class LabelEncoder:
    """Encodes the values of attributes as numbers."""

    def __init__(self, attributes: Mapping[str, tuple[str, ...]]) -> None:
        self.names = tuple(attributes)
        self._numbers = {name: {value: number for number, value in enumerate(values)} for name, values in attributes.items()}

    def encode(self, labels: Mapping[str, str]) -> list[int]:
        """The number of each attribute's value, -1 where an image has none or one that is not known."""
        return [self._numbers[name].get(labels.get(name, ""), UNKNOWN) for name in self.names]


class ImageBatches:
    """The training order: epoch after epoch, each one shuffled; of endless scenes, one after the other.

    An example id is a position in that endless sequence.
    """

    def __init__(self, images: ImageSet, labels: LabelEncoder, view: View, *, batch_size: int, seed: int, mixes: bool) -> None:
        self.images, self.labels, self.view, self.batch_size, self.seed, self.mixes = images, labels, view, batch_size, seed, mixes
        self._epochs: dict[int, Int64] = {}

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> ImageBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        return _stack([self._example(position) for position in ids])

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each image stands; another may have been mixed in."""
        return [self.images.row(self._index(position)).where for position in ids]

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """Any: all are of one size."""
        return range(size)

    def _example(self, position: int) -> "_Example":
        index = self._index(position)
        example = _Example.of(self.images, index, self.labels, self.view, (self.seed, 1, position))
        if not self.mixes:
            return example
        rng = np.random.default_rng([self.seed, 2, position])
        if rng.random() >= MIXED:
            return example
        partner = _Example.of(self.images, int(rng.integers(len(self.images))), self.labels, self.view, (self.seed, 3, position))
        kind: Mixing = "mixup" if rng.random() < 0.5 else "cutmix"
        mixed = mix(example.image, partner.image, kind, rng, MIXUP_ALPHA if kind == "mixup" else CUTMIX_ALPHA)
        return _Example(mixed.image, example.labels, partner.labels, mixed.share, example.patches, example.caption)

    def _index(self, position: int) -> int:
        size = len(self.images)
        if size >= ENDLESS:
            return position
        epoch, place = divmod(position, size)
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a batch may span two
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = np.random.default_rng([self.seed, 0, epoch]).permutation(size)
        return int(self._epochs[epoch][place])


def evaluation_batches(
    images: ImageSet, labels: LabelEncoder, view: View, count: int, *, batch_size: int
) -> Iterator[tuple[range, ImageBatch]]:
    """The first `count` images as they are, each batch with its images' indices."""
    for start in range(0, count, batch_size):
        indices = range(start, min(start + batch_size, count))
        yield indices, _stack([_Example.of(images, index, labels, view, None) for index in indices])


@dataclass(frozen=True)
class _Example:
    image: Tensor  # (3, S, S) uint8
    labels: list[int]
    others: list[int]
    share: float
    patches: Int64
    caption: str

    @classmethod
    def of(cls, images: ImageSet, index: int, labels: LabelEncoder, view: View, seed: Sequence[int] | None) -> "_Example":
        row, example = images.row(index), images.example(index, view, seed)
        numbers = labels.encode(row.labels)
        return cls(torch.from_numpy(example.image), numbers, numbers, 1.0, example.patches, row.caption or "")


def _stack(examples: Sequence[_Example]) -> ImageBatch:
    return ImageBatch(
        images=torch.stack([example.image for example in examples]),
        labels=torch.tensor([example.labels for example in examples], dtype=torch.int64),
        others=torch.tensor([example.others for example in examples], dtype=torch.int64),
        shares=torch.tensor([example.share for example in examples]),
        patches=torch.from_numpy(np.stack([example.patches for example in examples])),
        captions=tuple(example.caption for example in examples),
    )
