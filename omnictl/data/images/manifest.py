"""Image manifests: rows of an image and what it shows, as labels or a caption, judged by the rules of `manifest`."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.data.manifest.rows import Flaw, Manifest, Record, Schema, json_type, optional_text, read_split, require_text

Labels = Mapping[str, str]
"""An image's values by the names of the attributes."""

FIELDS = ("image", "label", "caption", "split")


class ImageRow(NamedTuple):
    """An image, and what is said about it: labels, a caption, or both."""

    id: str
    """The image's path below the corpus folder; an image that comes again is `#2`, `#3`."""
    image: Path
    """Absolute, below the corpus folder."""
    labels: Mapping[str, str]
    """By the names of the attributes; the only one of an image's class is called `label`."""
    caption: str | None
    split: Split | None
    where: str

    @property
    def file(self) -> Path:
        """The image, under the name that rows of all kinds have in common."""
        return self.image


ImageManifest = Manifest[ImageRow]


def _row(name: str, image: Path, record: Record) -> ImageRow:
    _, label, caption, split = map(record.fields.get, FIELDS)
    row = ImageRow(name, image, dict(_labels(label)), optional_text("caption", caption), read_split(split), record.where)
    if not row.labels and row.caption is None:
        raise Flaw("there is neither a label nor a caption")
    return row


def _labels(value: object) -> Iterator[tuple[str, str]]:
    """Names and values; null is an attribute that nobody looked at."""
    if isinstance(value, list):
        raise Flaw(f"the label should be a string or an object of named attributes, found {json_type(value)}")
    if not isinstance(value, dict):
        text = optional_text("label", _as_string("label", value))
        if text is not None:
            yield "label", text
        return
    for key, item in value.items():
        name = require_text("name of a label", key)
        if name != key:
            raise Flaw(f"the name of the label {key!r} has white space around it")
        if item is not None:
            yield name, require_text(f"label {name!r}", _as_string(f"label {name!r}", item))


def _as_string(name: str, value: object) -> object:
    """Numbers and truth values as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise Flaw(f"the {name} is {value}")
    return str(value) if isinstance(value, int | float) else value


IMAGES = Schema(
    file="image",
    known=FIELDS,
    needed=(("image",), ("label", "caption")),
    row=_row,
    needs="a label or a caption, and the path of an image file",
    first_line="write one line per image: its image file, and its label or caption",
)


def read_manifest(path: Path) -> ImageManifest:
    """The rows of a `.csv` or `.jsonl` manifest; image paths are relative to its folder.

    Raises:
        DataError: no such file, not of these formats, not valid UTF-8, a header without `image` and one of `label` and `caption`,
            or no usable row.
    """
    return IMAGES.read(path)


def label_values(labels: Iterable[Labels]) -> dict[str, tuple[str, ...]]:
    """The attributes as they first appear, each with its values in the order of their numbers: by size, or by the alphabet."""
    values: dict[str, set[str]] = {}
    for row in labels:
        for name, value in row.items():
            values.setdefault(name, set()).add(value)
    return {name: tuple(sorted(values[name], key=_natural)) for name in values}


def _natural(value: str) -> tuple[int, int, str]:
    """Numbers by size, before words."""
    return (0, int(value), value) if value.isdecimal() and len(value) < 100 else (1, 0, value)


def label_flaw(labels: Labels, known: Mapping[str, tuple[str, ...]]) -> str | None:
    """Why an image's labels cannot be used, if only the `known` values can be told."""
    for name, value in labels.items():
        if name not in known:
            return f"the attribute {name!r} is in no row of the training split"
        if value not in known[name]:
            return f"the {name} {value!r} is in no row of the training split"
    return None
