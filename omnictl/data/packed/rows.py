"""What a row of a packed corpus is, and how its columns become the keys of our manifests."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from omnictl.config.split import Split
from omnictl.regular_files import MIB, read_regular

PackedKind = Literal["speech", "images", "dialogues"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".jfif", ".jpe")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".webm")

_MAGIC = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
}
_SPOKEN = ("text", "sentence", "transcription", "transcript", "normalized_text")
_SPEAKERS = ("speaker", "speaker_id", "client_id")
_LABELS = ("label", "labels", "class", "category")
_CAPTIONS = ("caption", "text", "sentence", "description")
_TURNS = ("messages", "conversations", "conversation")


LARGEST_FILE = 256 * MIB
"""Of an image or a recording beside a table."""


class MediaBytes(NamedTuple):
    """An image or a recording that lies in a packed file."""

    data: bytes
    suffix: str
    """Of the file that it becomes."""


Stamp = list[int]
"""Size and time of a file."""
Stamps = dict[str, Stamp | None]
"""By path, of files that were looked for; None of one that is not there."""


class PackedRow(NamedTuple):
    """A row; its media are `MediaBytes`, or lists of them."""

    where: str
    fields: Mapping[str, Any]
    split: Split | None


Rows = Iterator[PackedRow]


def media_of(value: object, folder: Path, beside: Stamps) -> object:
    """A value as it is, or the media that it stands for: `{"bytes": …, "path": …}`, as `datasets` stores images and audio.

    Args:
        value: of a column.
        folder: where a path without bytes is looked for; it may not lead out of it.
        beside: takes those that are looked for.
    """
    if isinstance(value, list):
        return [media_of(item, folder, beside) for item in value]
    if not isinstance(value, dict) or not {"bytes", "path"} <= set(value):
        return value
    data, path = value["bytes"], value["path"]
    if data is None and isinstance(path, str):
        file = folder / path
        is_inside = not PurePath(path).is_absolute() and file.resolve().is_relative_to(folder.resolve())
        if is_inside:
            stamp = beside.setdefault(str(file.absolute()), stamp_of(file))
            data = None if stamp is None else read_regular(file, LARGEST_FILE)
    return MediaBytes(data, guess_suffix(data, path)) if data is not None else None


def stamp_of(file: Path) -> Stamp | None:
    """What changes with the content of a file; None if there is none."""
    if not file.is_file():
        return None
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def guess_suffix(data: bytes, path: object) -> str:
    """What a file with this content is called behind its dot: by its first bytes, else by the name that it had."""
    by_content = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), None)
    if by_content is None and data[:4] == b"RIFF":
        by_content = ".webp" if data[8:12] == b"WEBP" else ".wav"
    return by_content or (PurePath(path).suffix.lower() if isinstance(path, str) else "")


def kind_of(fields: Mapping[str, Any]) -> PackedKind | None:
    """What a row is one of, by its columns."""
    if any(name in fields for name in _TURNS):
        return "dialogues"
    kinds = {_media_kind(value) for value in fields.values()} | {name for name in ("image", "audio") if name in fields}
    if "audio" in kinds:
        return "speech"
    return "images" if "image" in kinds else None


def _media_kind(value: object) -> str | None:
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, MediaBytes):
        return None
    return "image" if first.suffix in IMAGE_SUFFIXES else "audio"


def unify(fields: Mapping[str, Any], kind: PackedKind, classes: Mapping[str, list[str]]) -> dict[str, Any]:
    """The keys of our manifests, from columns of other names.

    Args:
        fields: a row's.
        kind: what it is one of.
        classes: the names of the classes that a column has by number.
    """
    named = {name: _class_name(value, classes[name]) if name in classes else value for name, value in fields.items()}
    if kind == "dialogues":
        return named
    wanted = "audio" if kind == "speech" else "image"
    column = next((name for name, value in named.items() if _media_kind(value) == wanted), wanted)
    row: dict[str, Any] = {wanted: named.get(column), "split": named.get("split")}
    if kind == "speech":
        return {**row, "text": _first(named, _SPOKEN), "speaker": _first(named, _SPEAKERS)}
    labels = {name: named[name] for name in classes if named.get(name) is not None}
    label = next(iter(labels.values())) if len(labels) == 1 else (labels or _first(named, _LABELS))
    return {**row, "label": label, "caption": _first(named, _CAPTIONS)}


def _class_name(value: object, names: list[str]) -> object:
    is_number = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if is_number and isinstance(value, int) else None


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> object:
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else value
