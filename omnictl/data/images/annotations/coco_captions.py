"""COCO captions: `annotations/captions_train2017.json` and so on, with the images in `train2017/`; each sentence is a row."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from omnictl.data.images.annotations.coco_index import (
    broken_row,
    find_flaw,
    place_of_images,
    read_files,
    read_index,
    split_of_index,
)
from omnictl.data.images.manifest import IMAGES, ImageManifest
from omnictl.data.manifest.rows import BrokenRow, Record

_PREFIX = "captions_"
_FORM = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "A cat."}]}'
_FIX = f"download it anew, or write {_FORM}"


def caption_indexes(folder: Path) -> list[Path]:
    """The indexes of captions in a folder or in its `annotations`."""
    return sorted(chain(folder.glob(f"annotations/{_PREFIX}*.json"), folder.glob(f"{_PREFIX}*.json")))


def read_captions(folder: Path, indexes: Iterable[Path]) -> ImageManifest:
    """The captions of all indexes in their order; their split is told by the name of their index.

    Raises:
        DataError: an index that is not an object with `images` and `annotations`, or no usable caption.
    """
    return IMAGES.collect(folder, folder.resolve(), chain.from_iterable(_records(index, folder) for index in indexes))


def _records(file: Path, folder: Path) -> Iterator[Record | BrokenRow]:
    name = file.stem.removeprefix(_PREFIX)  # "train2017"
    split, place = split_of_index(name), place_of_images(name, file, folder)
    index = read_index(file, ("images", "annotations"), _FIX)
    files: dict[object, object] = {}
    for entry in read_files(index):
        if isinstance(entry, BrokenRow):
            yield entry
        else:
            files[entry[0]] = entry[1]
    uncaptioned = dict.fromkeys(files)
    for number, annotation in enumerate(index.lists["annotations"], start=1):
        where = f"{file}: annotation {number}"
        flaw = find_flaw(annotation, "image_id", "caption")
        if flaw is None and annotation["image_id"] not in files:
            flaw = f"there is no image with the id {annotation['image_id']!r}"
        if flaw is not None:
            yield broken_row(where, flaw)
            continue
        image = files[annotation["image_id"]]
        path = f"{place}{image}" if isinstance(image, str) else image
        uncaptioned.pop(annotation["image_id"], None)
        yield Record(where, {"image": path, "caption": annotation["caption"], "split": split})
    for image_id in uncaptioned:
        yield broken_row(str(file), f"the image with the id {image_id!r} has no caption")
