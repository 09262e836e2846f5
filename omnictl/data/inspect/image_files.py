"""The images of a source with what is known of each: from its headers alone, or from all of its pixels."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.config.split import SPLITS, Split
from omnictl.data.images.files.decoder import probe_image, read_image
from omnictl.data.images.layouts import find_images
from omnictl.data.images.manifest import Labels
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.manifest.thread_pool import measure_in_parallel
from omnictl.errors import DataError
from omnictl.progress import log_progress
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import Scene, scene

SCENES = 1_000
"""How many of TinyWorld's endless scenes are inspected in each split."""
SIDE = 112
"""At which scenes are drawn, in pixels: as large as the vision encoder is usually shown them."""


class ImageFile(NamedTuple):
    """What is known of an image."""

    name: str
    """Its path, or a scene's place; rows that have it in common show the same image."""
    width: int
    """In pixels."""
    height: int
    format: str
    digest: bytes
    """Digest of the pixels; empty if they were not read."""


class ImageFacts(NamedTuple):
    """A row whose image is there."""

    id: str
    where: str
    split: Split
    labels: Labels
    caption: str | None
    image: ImageFile


class ImageSource(NamedTuple):
    """The images of a source, after a look at them."""

    seen: Sequence[ImageFacts]
    unreadable: Sequence[BrokenRow]
    """Rows whose image cannot be read."""
    broken: Sequence[BrokenRow]
    """Rows that cannot be used whatever their images."""
    training: Sequence[Labels]
    """Of all rows of the training split, also those that were not looked at; none of endless scenes."""


def look(source: str, limit: int | None, measure: Callable[[Path], ImageFile], doing: str) -> ImageSource:
    """Looks once at every image of a source.

    Args:
        source: a manifest, a corpus folder, or TinyWorld, which has no files and is drawn.
        limit: at most this many rows of each split.
        measure: of a file, `probe` or `decode`.
        doing: what to call this in notes of progress.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    seed = tinyworld_seed(source)
    if seed is not None:
        count = limit or SCENES
        return ImageSource(list(log_progress(_render_scenes(seed, count), "drawing images", len(SPLITS) * count)), (), (), ())
    manifest = find_images(source_path(source))
    splits = fill_splits(manifest.rows)
    rows = [(split, row) for split in SPLITS for row in splits[split][:limit]]
    files = list(dict.fromkeys(row.image for _, row in rows))  # of some images there are several rows
    images = dict(zip(files, log_progress(measure_in_parallel(files, measure), doing, len(files)), strict=True))
    seen, unreadable = [], []
    for split, row in rows:
        image = images[row.image]
        if isinstance(image, DataError):
            unreadable.append(BrokenRow(row.id, row.where, image.message))
        else:
            seen.append(ImageFacts(row.id, row.where, split, row.labels, row.caption, image))
    training = [row.labels for row in splits["train"] if not isinstance(images.get(row.image), DataError)]
    return ImageSource(seen, unreadable, manifest.broken, training)


def _render_scenes(seed: int, count: int) -> Iterator[ImageFacts]:
    for split in SPLITS:
        for index in range(count):
            drawn_scene, image = scene(seed, split, index), render_scene(seed, split, index)
            yield ImageFacts(f"{split}/{index}", image.name, split, drawn_scene.labels(), drawn_scene.caption, image)


def render_scene(seed: int, split: Split, index: int) -> ImageFile:
    """A scene of TinyWorld, which is drawn for it."""
    return ImageFile(f"tinyworld:{seed}/{split}/{index}", SIDE, SIDE, "drawn", _digest(render_pixels(scene(seed, split, index))))


def render_pixels(drawn_scene: Scene) -> NDArray[np.uint8]:
    """`(H, W, 3)`: a scene as the file of an image has it."""
    return np.ascontiguousarray(draw(drawn_scene, SIDE).image.transpose(1, 2, 0))


def probe(file: Path) -> ImageFile:
    """What the headers say.

    Raises:
        DataError: not there, not an image, not whole, or out of bounds.
    """
    info = probe_image(file)
    return ImageFile(str(file), info.width, info.height, info.format, b"")


def decode(file: Path) -> ImageFile:
    """What is there, every pixel read.

    Raises:
        DataError: not there, not an image, not whole, or out of bounds.
    """
    info = probe_image(file)
    return ImageFile(str(file), info.width, info.height, info.format, _digest(read_image(file)))


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=b"%dx%d" % pixels.shape[:2]).digest()
