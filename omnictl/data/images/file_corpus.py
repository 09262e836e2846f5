"""Images in a user's files, with labels, captions or both, in three splits.

Files are decoded each time they are shown, after one look at all of them when a run begins: what cannot be read is set aside with
its reason, never replaced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from math import prod
from operator import mul
from pathlib import Path
from typing import Literal

import numpy as np

from omnictl.config.split import Split
from omnictl.data.images.augmentation import Augmentation, augment, prepare
from omnictl.data.images.corpus import (
    MOST_CLASSES,
    ImageDataConfig,
    ImageExample,
    ImageRecord,
    ImageSet,
    Pixels,
    View,
)
from omnictl.data.images.files.broken_images import find_broken_images
from omnictl.data.images.files.decoder import read_image
from omnictl.data.images.manifest import ImageManifest, ImageRow, label_flaw, label_values
from omnictl.data.manifest.contents import fingerprint_rows
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.splits import fill_splits
from omnictl.errors import DataError

FINER = 2
"""Files are decoded at this multiple of the model's resolution before a part of them is cut out."""


def load_image(file: Path, size: int) -> Pixels:
    """`(3, size, size)` RGB: the central square of an image file.

    Raises:
        DataError: it cannot be read.
    """
    return np.asarray(prepare(read_image(file, shorter=FINER * size), size, crop=1.0))


class ImageFiles:
    """Images in files, with labels, captions or both."""

    def __init__(self, manifest: ImageManifest, config: ImageDataConfig, cache: Path) -> None:
        self._folder, self._augmentation = manifest.folder, config.augmentation
        flaws = find_broken_images([row.image for row in manifest.rows], cache)
        unreadable = [BrokenRow(row.id, row.where, flaws[row.image]) for row in manifest.rows if row.image in flaws]
        self.broken = (*manifest.broken, *unreadable)
        splits = fill_splits(manifest.rows, val_fraction=config.val_fraction, test_fraction=config.test_fraction)
        # Only then set aside: a file that breaks must not move others from one split to another.
        self._splits = {split: tuple(row for row in rows if row.image not in flaws) for split, rows in splits.items()}
        self._top1 = config.top1

    @property
    def name(self) -> str:
        """Its folder."""
        return str(self._folder)

    @cached_property
    def contents_fingerprint(self) -> str:
        """SHA-256 over what all rows say, the sizes of their files, and how they are split."""
        rows = ((split, row) for split, rows in self._splits.items() for row in rows)
        said = ((split, (row.id, tuple(row.labels.items()), row.caption, row.image.stat().st_size)) for split, row in rows)
        return fingerprint_rows(said)

    def rows(self, split: Split) -> tuple[ImageRow, ...]:
        """The rows of a split whose image can be read, whatever is said of it."""
        return self._splits[split]

    @cached_property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """The values that each attribute has in training, in the order of their numbers."""
        return label_values(row.labels for row in self._splits["train"])

    @property
    def patch_attributes(self) -> Mapping[str, tuple[str, ...]]:
        """None: nobody says what parts of these images show."""
        return {}

    @property
    def top1(self) -> tuple[str, ...]:
        """The attributes that name an image's class."""
        if self._top1:
            return self._top1
        names = tuple(self.attributes)
        counts = accumulate((len(values) for values in self.attributes.values()), mul)
        return names[: sum(count <= MOST_CLASSES for count in counts)] or names[:1]

    def images(self, split: Split, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> ImageSet:
        """The images of a split that have what is needed, and no other label than the `known` ones."""
        flaws = [_flaw(row, needs, known) for row in self._splits[split]]
        pairs = list(zip(self._splits[split], flaws, strict=True))
        rows = tuple(row for row, flaw in pairs if flaw is None)
        if not rows:
            sizes = ", ".join(f"{name} {len(rows_of_split)}" for name, rows_of_split in self._splits.items())
            reason = f"; the first of {len(pairs)} rows: {pairs[0][1]}" if pairs else ""
            raise DataError(
                f"no image of the {split} split of {self._folder} can be used ({sizes} images){reason}",
                where=pairs[0][0].where if pairs else self.name,
                fix=f"give rows with {'a label' if needs == 'labels' else 'a caption'}"
                + ("" if split == "train" else f", or --set data.{split}_fraction=0.1"),
            )
        set_aside = tuple(BrokenRow(row.id, row.where, flaw) for row, flaw in pairs if flaw is not None)
        kind: Augmentation = "light" if self._augmentation == "auto" else self._augmentation
        return ImageRows(rows, set_aside, kind)

    @property
    def unseen(self) -> frozenset[tuple[str, ...]]:
        """Combinations of values of the `top1` attributes, each known, that training never shows together."""
        if len(self.top1) < 2 or prod(len(self.attributes.get(name, ())) for name in self.top1) > MOST_CLASSES:
            return frozenset()
        seen = {tuple(row.labels.get(name, "") for name in self.top1) for row in self._splits["train"]}
        return frozenset(product(*(self.attributes.get(name, ()) for name in self.top1))) - seen

    def captions(self) -> Iterator[str]:
        """Captions of the training split to learn a vocabulary from."""
        captions = [row.caption for row in self._splits["train"] if row.caption]
        if not captions:
            raise DataError(
                f"no row of the training split of {self.name} has a caption",
                where=self.name,
                fix="give rows a `caption`, or learn from labels with --set objective=classes",
            )
        return iter(captions)


def _flaw(row: ImageRow, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> str | None:
    if needs == "caption":
        return None if row.caption else "no caption"
    return label_flaw(row.labels, known) if row.labels else "no label"


@dataclass(frozen=True)
class ImageRows:
    """A split of image files."""

    rows: tuple[ImageRow, ...]
    set_aside: Sequence[BrokenRow]
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> ImageRecord:
        """What is known of an image."""
        row = self.rows[index]
        return ImageRecord(row.id, row.where, row.labels, row.caption, row.image)

    def example(self, index: int, view: View, seed: Sequence[int] | None = None) -> ImageExample:
        """An image, varied as that seed says, or (None) as it is."""
        pixels = read_image(self.rows[index].image, shorter=FINER * view.size)
        if seed is None or self.augmentation == "none":
            image = prepare(pixels, view.size, crop=1.0)
        else:
            image = augment(pixels, view.size, self.augmentation, seed)
        return ImageExample(np.asarray(image), np.zeros((0, 0), np.int64))
