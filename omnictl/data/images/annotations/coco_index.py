"""An index as COCO writes it: an object with lists of images and of annotations, and where the images of an index lie.

Format after https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow, json_type, parse_split
from omnictl.data.manifest.tables import read_text
from omnictl.errors import DataError
from omnictl.regular_files import MIB

LARGEST_INDEX = 1024 * MIB
"""Bytes of an index: COCO's own of the objects in its training images has 448 MB."""


class CocoIndex(NamedTuple):
    """What an index holds, by its keys, nothing of it checked but that these are lists."""

    file: Path
    lists: Mapping[str, Sequence[Any]]


def read_index(file: Path, keys: Sequence[str], fix: str) -> CocoIndex:
    """The lists under the keys of an index.

    Raises:
        DataError: it cannot be read, or is not an object with these lists; `fix` says what helps.
    """
    text = read_text(file, fix, most=LARGEST_INDEX)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"broken JSON: {error}", where=f"{file}{line}", fix=fix) from error
    if not isinstance(content, dict):
        raise DataError(f"an object was expected, found {json_type(content)}", where=str(file), fix=fix)
    return CocoIndex(file, {key: _list(content, key, file, fix) for key in keys})


def _list(content: Mapping[str, object], key: str, file: Path, fix: str) -> list[Any]:
    value = content.get(key)
    if isinstance(value, list):
        return value
    keys = ", ".join(map(repr, content)) or "no keys"
    message = f"{key!r} should be a list, found {json_type(value)}" if key in content else f"no key {key!r} (found {keys})"
    raise DataError(message, where=str(file), fix=fix)


def read_files(index: CocoIndex) -> Iterator[tuple[object, object] | BrokenRow]:
    """The id and the file name of every image of an index."""
    ids: set[object] = set()
    for number, image in enumerate(index.lists["images"], start=1):
        flaw = find_flaw(image, "id", "file_name") or ("its id is that of an image above" if image["id"] in ids else None)
        if flaw is None:
            ids.add(image["id"])
            yield image["id"], image["file_name"]
        else:
            yield broken_row(f"{index.file}: image {number}", flaw)


def split_of_index(name: str) -> Split | None:
    """The split in the name of an index, `train2017`, if there is one."""
    return parse_split(name.rstrip("0123456789").rstrip("_-"))


def place_of_images(name: str, index: Path, folder: Path) -> str:
    """Where the images of an index are, below the folder: in one called as it is, in `images`, or beside the index."""
    for place in (name, f"images/{name}", "images"):
        if (folder / place).is_dir():
            return f"{place}/"
    return "" if index.parent == folder else f"{index.parent.name}/"


def find_flaw(value: object, key: str, other: str) -> str | None:
    """Why a value is not an object with an id under one key and something under another."""
    if not isinstance(value, dict):
        return f"an object was expected, found {json_type(value)}"
    missing = next((name for name in (key, other) if name not in value), None)
    if missing is not None:
        return f"no key {missing!r} (found {', '.join(map(repr, value)) or 'no keys'})"
    if not isinstance(value[key], int | str):
        return f"the {key} should be a number, found {json_type(value[key])}"
    return None


def broken_row(where: str, flaw: str) -> BrokenRow:
    """A part of an index that cannot be used."""
    return BrokenRow(where, where, flaw)
