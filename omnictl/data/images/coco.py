"""COCO captions: `annotations/captions_train2017.json` and so on, with the images in `train2017/`.

An index lists its images, and sentences about them; each sentence is a row. Format after https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from omnictl.data.images.manifest import IMAGES, ImageManifest
from omnictl.data.manifest.rows import BrokenRow, Record, json_type, parse_split
from omnictl.data.manifest.tables import read_text
from omnictl.errors import DataError

_PREFIX = "captions_"
_FORM = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "A cat."}]}'
_FIX = f"download it anew, or write {_FORM}"


def coco_indexes(folder: Path) -> list[Path]:
    """The indexes of captions in a folder or in its `annotations`."""
    return sorted(chain(folder.glob(f"annotations/{_PREFIX}*.json"), folder.glob(f"{_PREFIX}*.json")))


def read_coco(folder: Path, indexes: Iterable[Path]) -> ImageManifest:
    """The captions of all indexes in their order; their split is told by the name of their index.

    Raises:
        DataError: an index that is not an object with `images` and `annotations`, or no usable caption.
    """
    return IMAGES.collect(folder, folder.resolve(), chain.from_iterable(_records(index, folder) for index in indexes))


def _records(index: Path, folder: Path) -> Iterator[Record | BrokenRow]:
    name = index.stem.removeprefix(_PREFIX)  # "train2017"
    split = parse_split(name.rstrip("0123456789").rstrip("_-"))
    place = _place(name, index, folder)
    images, annotations = _read(index)
    files: dict[object, object] = {}
    for number, image in enumerate(images, start=1):
        flaw = _flaw(image, "id", "file_name") or ("its id is that of an image above" if image["id"] in files else None)
        if flaw is None:
            files[image["id"]] = image["file_name"]
        else:
            yield _broken(f"{index}: image {number}", flaw)
    uncaptioned = dict.fromkeys(files)
    for number, annotation in enumerate(annotations, start=1):
        where = f"{index}: annotation {number}"
        flaw = _flaw(annotation, "image_id", "caption")
        if flaw is None and annotation["image_id"] not in files:
            flaw = f"there is no image with the id {annotation['image_id']!r}"
        if flaw is not None:
            yield _broken(where, flaw)
            continue
        file = files[annotation["image_id"]]
        path = f"{place}{file}" if isinstance(file, str) else file
        uncaptioned.pop(annotation["image_id"], None)
        yield Record(where, {"image": path, "caption": annotation["caption"], "split": split})
    for image_id in uncaptioned:
        yield _broken(str(index), f"the image with the id {image_id!r} has no caption")


def _place(name: str, index: Path, folder: Path) -> str:
    """Where the images of an index are, below the folder: in one of their own, in `images`, or beside the index."""
    for place in (name, f"images/{name}", "images"):
        if (folder / place).is_dir():
            return f"{place}/"
    return "" if index.parent == folder else f"{index.parent.name}/"


def _read(index: Path) -> tuple[list[Any], list[Any]]:
    text = read_text(index, _FIX)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"broken JSON: {error}", where=f"{index}{line}", fix=_FIX) from error
    if not isinstance(content, dict):
        raise DataError(f"an object was expected, found {json_type(content)}", where=str(index), fix=_FIX)
    images, annotations = (_list(content, key, index) for key in ("images", "annotations"))
    return images, annotations


def _list(content: Mapping[str, object], key: str, index: Path) -> list[Any]:
    value = content.get(key)
    if isinstance(value, list):
        return value
    keys = ", ".join(map(repr, content)) or "no keys"
    message = f"{key!r} should be a list, found {json_type(value)}" if key in content else f"no key {key!r} (found {keys})"
    raise DataError(message, where=str(index), fix=_FIX)


def _flaw(value: object, key: str, other: str) -> str | None:
    """Why a value is not an object with an id under one key and something under another."""
    if not isinstance(value, dict):
        return f"an object was expected, found {json_type(value)}"
    missing = next((name for name in (key, other) if name not in value), None)
    if missing is not None:
        return f"no key {missing!r} (found {', '.join(map(repr, value)) or 'no keys'})"
    if not isinstance(value[key], int | str):
        return f"the {key} should be a number, found {json_type(value[key])}"
    return None


def _broken(where: str, flaw: str) -> BrokenRow:
    return BrokenRow(where, where, flaw)
