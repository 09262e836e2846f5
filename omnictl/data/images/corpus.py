"""Picture corpora: TinyWorld's scenes or one's own files, as labelled and captioned pictures in three splits.

Scenes are drawn as they are asked for, and in training no two are the same. Files are decoded each time they are shown, after one
look at all of them when a run begins: what cannot be read is set aside with its reason, never replaced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, product
from math import prod
from operator import mul
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omnictl.config.base import Config
from omnictl.config.split import Split
from omnictl.data.images.augmentation import Augmentation, augment, prepare
from omnictl.data.images.file_checks import verdicts
from omnictl.data.images.files import read_image
from omnictl.data.images.labels import label_flaw, label_values
from omnictl.data.images.layouts import find_images
from omnictl.data.images.manifest import ImageManifest, ImageRow
from omnictl.data.images.splits import split_images
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.text.corpus import TINYWORLD_SEED, tinyworld_seed
from omnictl.errors import DataError
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import HELDOUT_PAIRS, Scene, attribute_values, pair_captions, scene
from omnictl.tinyworld.language.lexicon import COLOURS, SHAPES

Pixels = NDArray[np.uint8]
Int64 = NDArray[np.int64]

BACKGROUND = "background"
"""What a patch shows that no shape covers."""

PATCH_COVER = 0.25
"""Share of a patch that a shape must cover to be what the patch shows."""

FINER = 2
"""Files are kept at so many times the model's resolution before a part of them is cut out."""

ENDLESS = 2**40
"""Training scenes."""

VOCABULARY_SCENES = 2_000
"""Scenes whose captions the vocabulary is learned from."""

MOST_CLASSES = 1_000
"""Combinations of values that `top1` can be asked of."""


class ImageDataConfig(Config):
    """Which pictures, how they are split, and how they are varied in training."""

    source: str = "tinyworld"
    """A manifest, a folder of class folders or captioned pictures, `tinyworld`, or `tinyworld:SEED` for another draw."""
    num_eval_images: int = Field(2_000, ge=2, description="test scenes of TinyWorld, and half as many validation ones")
    val_fraction: float | None = Field(None, ge=0, lt=1)
    """Of files: the share validated on. Without it 0.05, unless rows name their split."""
    test_fraction: float | None = Field(None, ge=0, lt=1)
    """Of files: the share kept for the test. Without it 0.05, or none if rows name their split."""
    top1: tuple[str, ...] = Field(
        (),
        description="attributes that `top1` wants right; none: the first ones, up to 1,000 combinations of values",
    )
    augmentation: Literal["auto", "none", "light", "strong"] = Field(
        "auto", description="how training pictures are varied; auto: light, TinyWorld's scenes not at all"
    )
    max_broken: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside before training refuses")


class ImageExample(NamedTuple):
    """One picture as the model sees it."""

    picture: Pixels  # (3, S, S) RGB
    patches: Int64  # (P, A) attributes of what each merged patch shows; (0, 0) if that is not known


class ImageRecord(NamedTuple):
    """What is known of a picture; the picture itself is left where it is."""

    id: str
    where: str
    labels: Mapping[str, str]
    caption: str | None
    image: Path | None
    """Its file, if it has one."""


class ImageSet(Protocol):
    """The usable pictures of a split."""

    @property
    def set_aside(self) -> Sequence[BrokenRow]:
        """Rows of the split that cannot be used, each with the reason."""
        ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> ImageRecord:
        """What is known of a picture."""
        ...

    def shown(self, index: int, view: "View", seed: Sequence[int] | None = None) -> ImageExample:
        """A picture, varied as that seed says, or (None) as it is."""
        ...


class View(NamedTuple):
    """What a model wants to see."""

    size: int  # pixels of a side
    grid: int  # merged patches along a side


class ImageCorpus(Protocol):
    """Labelled and captioned pictures in splits."""

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
        """The attributes that name a picture's class."""
        ...

    @property
    def broken(self) -> Sequence[BrokenRow]:
        """Rows whose picture, labels and caption cannot be used, whatever their split."""
        ...

    def images(self, split: Split, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> ImageSet:
        """The pictures of a split that have what is needed, and no other label than the `known` ones.

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


def open_images(config: ImageDataConfig, cache: Path) -> ImageCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldImages(seed, config.num_eval_images, config.top1 or ("shape", "colour"))
    return ImageFiles(find_images(Path(config.source).expanduser()), config, cache)


def class_prompts(source: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Captions that a picture of a class might have: of TinyWorld all that name its shape and colour, else the labels' words.

    Args:
        source: of the pictures that the captions were learned from.
        labels: the values of the attributes that name the class.
    """
    if tinyworld_seed(source) is not None and set(labels) == {"shape", "colour"}:
        return pair_captions(labels["colour"], labels["shape"])
    return (" ".join(reversed(list(labels.values()))),)


@dataclass(frozen=True)
class TinyWorldImages:
    """Scenes of TinyWorld."""

    seed: int
    num_eval_images: int
    top1: tuple[str, ...]
    broken: Sequence[BrokenRow] = ()

    @property
    def name(self) -> str:
        """The source that draws it again."""
        return "tinyworld" if self.seed == TINYWORLD_SEED else f"tinyworld:{self.seed}"

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """See `ImageCorpus`."""
        return attribute_values()

    @property
    def patch_attributes(self) -> Mapping[str, tuple[str, ...]]:
        """See `ImageCorpus`."""
        return {"shape": (BACKGROUND, *SHAPES), "colour": (BACKGROUND, *COLOURS)}

    def images(self, split: Split, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> ImageSet:  # noqa: ARG002
        """See `ImageCorpus`; every scene has everything."""
        sizes = {"train": ENDLESS, "val": self.num_eval_images // 2, "test": self.num_eval_images}
        return Scenes(self.seed, split, sizes[split])

    @property
    def unseen(self) -> frozenset[tuple[str, ...]]:
        """See `ImageCorpus`."""
        if set(self.top1) != {"shape", "colour"}:
            return frozenset()
        pairs = ({"colour": colour, "shape": shape} for colour, shape in HELDOUT_PAIRS)
        return frozenset(tuple(pair[name] for name in self.top1) for pair in pairs)

    def captions(self) -> Iterator[str]:
        """See `ImageCorpus`."""
        return (scene(self.seed, "train", index).caption for index in range(VOCABULARY_SCENES))


@dataclass(frozen=True)
class Scenes:
    """A split of TinyWorld, drawn on the fly."""

    seed: int
    split: Split
    size: int
    set_aside: Sequence[BrokenRow] = ()

    def __len__(self) -> int:
        return self.size

    def row(self, index: int) -> ImageRecord:
        """See `ImageSet`."""
        found = scene(self.seed, self.split, index)
        where = f"tinyworld:{self.seed}/{self.split}/{index}"
        return ImageRecord(f"{self.split}/{index}", where, found.labels(), found.caption, None)

    def shown(self, index: int, view: View, seed: Sequence[int] | None = None) -> ImageExample:  # noqa: ARG002
        """See `ImageSet`; scenes are never varied, a change would make their labels wrong."""
        found = scene(self.seed, self.split, index)
        drawn = draw(found, view.size)
        return ImageExample(drawn.picture, patch_labels(found, drawn.owners, view.grid))


def patch_labels(found: Scene, owners: Pixels, grid: int) -> Int64:
    """`(grid², 2)`: shape and colour of what each patch shows, 0 for the ground.

    That is the shape that covers most of it, if it covers a quarter or has no patch that it covers more of.
    """
    side, many = len(owners) // grid, len(found.figures)
    pixels = np.bincount((_patch_numbers(grid, side) * (many + 1) + owners).ravel(), minlength=grid * grid * (many + 1))
    covers = pixels.reshape(grid, grid, many + 1)[:, :, 1:].transpose(2, 0, 1)  # (figures, grid, grid)
    best = covers.argmax(0)
    shows = covers.max(0) >= PATCH_COVER * side * side
    for index, cover in enumerate(covers):
        row, column = np.unravel_index(cover.argmax(), cover.shape)
        if cover[row, column] and not shows[row, column]:
            shows[row, column], best[row, column] = True, index
    kinds = np.array([[1 + SHAPES.index(item.shape), 1 + COLOURS.index(item.colour)] for item, *_ in found.figures])
    labels: Int64 = (kinds[best] * shows[:, :, None]).reshape(grid * grid, 2).astype(np.int64)
    return labels


@lru_cache(maxsize=4)
def _patch_numbers(grid: int, side: int) -> Int64:
    """`(grid · side, grid · side)`: the patch that each pixel belongs to."""
    along = np.arange(grid * side) // side
    return along[:, None] * grid + along


class ImageFiles:
    """Pictures in files, with labels, captions or both."""

    def __init__(self, manifest: ImageManifest, config: ImageDataConfig, cache: Path) -> None:
        self._folder, self._augmentation = manifest.folder, config.augmentation
        flaws = verdicts([row.image for row in manifest.rows], cache)
        unreadable = [BrokenRow(row.id, row.where, flaws[row.image]) for row in manifest.rows if row.image in flaws]
        self.broken = (*manifest.broken, *unreadable)
        splits = split_images(manifest.rows, val_fraction=config.val_fraction, test_fraction=config.test_fraction)
        # Only then set aside: a file that breaks must not move others from one split to another.
        self._splits = {split: tuple(row for row in rows if row.image not in flaws) for split, rows in splits.items()}
        self._top1 = config.top1

    @property
    def name(self) -> str:
        """Its folder."""
        return str(self._folder)

    @cached_property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """See `ImageCorpus`."""
        return label_values(row.labels for row in self._splits["train"])

    @property
    def patch_attributes(self) -> Mapping[str, tuple[str, ...]]:
        """See `ImageCorpus`: nobody says what parts of these pictures show."""
        return {}

    @property
    def top1(self) -> tuple[str, ...]:
        """See `ImageCorpus`."""
        if self._top1:
            return self._top1
        names = tuple(self.attributes)
        counts = accumulate((len(values) for values in self.attributes.values()), mul)
        return names[: sum(count <= MOST_CLASSES for count in counts)] or names[:1]

    def images(self, split: Split, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> ImageSet:
        """See `ImageCorpus`."""
        flaws = [_flaw(row, needs, known) for row in self._splits[split]]
        pairs = list(zip(self._splits[split], flaws, strict=True))
        rows = tuple(row for row, flaw in pairs if flaw is None)
        if not rows:
            sizes = ", ".join(f"{name} {len(found)}" for name, found in self._splits.items())
            reason = f"; the first of {len(pairs)} rows: {pairs[0][1]}" if pairs else ""
            raise DataError(
                f"no picture of the {split} split of {self._folder} can be used ({sizes} pictures){reason}",
                where=pairs[0][0].where if pairs else self.name,
                fix=f"give rows with {'a label' if needs == 'labels' else 'a caption'}"
                + ("" if split == "train" else f", or --set data.{split}_fraction=0.1"),
            )
        aside = tuple(BrokenRow(row.id, row.where, flaw) for row, flaw in pairs if flaw is not None)
        kind: Augmentation = "light" if self._augmentation == "auto" else self._augmentation
        return ImageRows(rows, aside, kind)

    @property
    def unseen(self) -> frozenset[tuple[str, ...]]:
        """See `ImageCorpus`."""
        if len(self.top1) < 2 or prod(len(self.attributes.get(name, ())) for name in self.top1) > MOST_CLASSES:
            return frozenset()
        seen = {tuple(row.labels.get(name, "") for name in self.top1) for row in self._splits["train"]}
        return frozenset(product(*(self.attributes.get(name, ()) for name in self.top1))) - seen

    def captions(self) -> Iterator[str]:
        """See `ImageCorpus`."""
        found = [row.caption for row in self._splits["train"] if row.caption]
        if not found:
            raise DataError(
                f"no row of the training split of {self.name} has a caption",
                where=self.name,
                fix="give rows a `caption`, or learn from labels with --set objective=classes",
            )
        return iter(found)


def _flaw(row: ImageRow, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> str | None:
    if needs == "caption":
        return None if row.caption else "no caption"
    return label_flaw(row.labels, known) if row.labels else "no label"


@dataclass(frozen=True)
class ImageRows:
    """A split of picture files."""

    rows: tuple[ImageRow, ...]
    set_aside: Sequence[BrokenRow]
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> ImageRecord:
        """See `ImageSet`."""
        row = self.rows[index]
        return ImageRecord(row.id, row.where, row.labels, row.caption, row.image)

    def shown(self, index: int, view: View, seed: Sequence[int] | None = None) -> ImageExample:
        """See `ImageSet`."""
        pixels = read_image(self.rows[index].image, shorter=FINER * view.size)
        if seed is None or self.augmentation == "none":
            picture = prepare(pixels, view.size, crop=1.0)
        else:
            picture = augment(pixels, view.size, self.augmentation, seed)
        return ImageExample(np.asarray(picture), np.zeros((0, 0), np.int64))
