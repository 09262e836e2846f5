"""TinyWorld's scenes as labelled and captioned images, drawn as they are asked for; in training no two are the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from omnictl.config.split import Split
from omnictl.data.images.corpus import ImageExample, ImageRecord, ImageSet, Int64, Pixels, View
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import tinyworld_name, tinyworld_seed
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import FACTS, HELDOUT_PAIRS, Scene, attribute_values, pair_captions, scene

BACKGROUND = "background"
"""What a patch shows that no shape covers."""

PATCH_COVER = 0.25
"""Share of a patch that a shape must cover to be what the patch shows."""

ENDLESS = 2**40
"""Training scenes."""

VOCABULARY_SCENES = 2_000
"""Scenes whose captions the vocabulary is learned from."""


@dataclass(frozen=True)
class TinyWorldImages:
    """Scenes of TinyWorld."""

    seed: int
    num_eval_images: int
    top1: tuple[str, ...]
    broken: Sequence[BrokenRow] = ()

    @property
    def name(self) -> str:
        """The value of `data.source` that draws it again."""
        return tinyworld_name(self.seed)

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]:
        """The values that each attribute has in training, in the order of their numbers."""
        return attribute_values()

    @property
    def patch_attributes(self) -> Mapping[str, tuple[str, ...]]:
        """The same of what a patch shows: all facts of its shape, so that any of them can be looked up where another is."""
        return {name: (BACKGROUND, *attribute_values()[name]) for name in FACTS}

    def images(self, split: Split, needs: Literal["labels", "caption"], known: Mapping[str, tuple[str, ...]]) -> ImageSet:  # noqa: ARG002
        """The images of a split that have what is needed, and no other label than the `known` ones; every scene has everything."""
        sizes = {"train": ENDLESS, "val": self.num_eval_images // 2, "test": self.num_eval_images}
        return Scenes(self.seed, split, sizes[split])

    @property
    def unseen(self) -> frozenset[tuple[str, ...]]:
        """Combinations of values of the `top1` attributes, each known, that training never shows together."""
        if set(self.top1) != {"shape", "colour"}:
            return frozenset()
        pairs = ({"colour": colour, "shape": shape} for colour, shape in HELDOUT_PAIRS)
        return frozenset(tuple(pair[name] for name in self.top1) for pair in pairs)

    def captions(self) -> Iterator[str]:
        """Captions of the training split to learn a vocabulary from."""
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
        """What is known of an image."""
        drawn_scene = scene(self.seed, self.split, index)
        where = f"tinyworld:{self.seed}/{self.split}/{index}"
        return ImageRecord(f"{self.split}/{index}", where, drawn_scene.labels(), drawn_scene.caption, None)

    def example(self, index: int, view: View, seed: Sequence[int] | None = None) -> ImageExample:  # noqa: ARG002
        """An image, never varied: a change would make its labels wrong."""
        drawn_scene = scene(self.seed, self.split, index)
        drawing = draw(drawn_scene, view.size)
        return ImageExample(drawing.image, label_patches(drawn_scene, drawing.owners, view.grid))


def label_patches(drawn_scene: Scene, owners: Pixels, grid: int) -> Int64:
    """`(grid², 5)`: the values of `FACTS` of what each patch shows, 0 for the ground.

    That is the shape that covers most of it, if it covers a quarter. A shape that has no such patch is what the one shows that
    it covers most of among those left, the largest shape first.
    """
    side, num_shapes = len(owners) // grid, len(drawn_scene.figures)
    pixels = np.bincount((_patch_numbers(grid, side) * (num_shapes + 1) + owners).ravel(), minlength=grid * grid * (num_shapes + 1))
    covers = pixels.reshape(grid, grid, num_shapes + 1)[:, :, 1:].transpose(2, 0, 1)  # (figures, grid, grid)
    best = covers.argmax(0)
    shows = covers.max(0) >= PATCH_COVER * side * side
    for index, cover in enumerate(covers):
        left = cover * ~shows
        patch = np.unravel_index(left.argmax(), left.shape)
        if left[patch] and not (shows & (best == index)).any():
            shows[patch], best[patch] = True, index
    facts = np.array(
        [[_patch_values()[name][value] for name, value in drawn_scene.facts(item).items()] for item, *_ in drawn_scene.figures]
    )  # (figures, 5)
    labels: Int64 = (facts[best] * shows[:, :, None]).reshape(grid * grid, len(FACTS)).astype(np.int64)
    return labels


@lru_cache(maxsize=1)
def _patch_values() -> Mapping[str, Mapping[str, int]]:
    """The number of each value of `FACTS`; the ground has 0."""
    values = attribute_values()
    return {name: {value: number for number, value in enumerate(values[name], start=1)} for name in FACTS}


@lru_cache(maxsize=4)
def _patch_numbers(grid: int, side: int) -> Int64:
    """`(grid · side, grid · side)`: the patch that each pixel belongs to."""
    along = np.arange(grid * side) // side
    return along[:, None] * grid + along


def class_prompts(source: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Captions that an image of a class might have: of TinyWorld all that name its shape and colour, else the labels' words.

    Args:
        source: of the images that the captions were learned from.
        labels: the values of the attributes that name the class.
    """
    if tinyworld_seed(source) is not None and set(labels) == {"shape", "colour"}:
        return pair_captions(labels["colour"], labels["shape"])
    return (" ".join(reversed(list(labels.values()))),)
