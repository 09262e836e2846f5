"""Speech manifests: rows of a recording and what is said in it, from CSV with a header or JSONL.

A row that cannot be used becomes a `BrokenRow`, for the caller to count and report; a file that cannot be read as a manifest
is a `DataError` with file and line. No audio is decoded here.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from omnictl.data.tables import check_columns, csv_records, meant_by, read_lines
from omnictl.data.text_files import SPLITS, Split
from omnictl.errors import DataError

SUFFIXES = (".csv", ".jsonl")
FIELDS = ("audio", "text", "speaker", "split")
_NEEDED = FIELDS[:2]
_SPLIT_NAMES: dict[str, Split] = {**{name: name for name in SPLITS}, "validation": "val", "valid": "val", "dev": "val"}


class SpeechRow(NamedTuple):
    """A recording and its transcript."""

    id: str
    """The audio's path below the corpus folder; a file that comes again is `#2`, `#3`."""
    audio: Path
    """Absolute, below the corpus folder."""
    text: str
    speaker: str | None
    split: Split | None
    where: str


class BrokenRow(NamedTuple):
    """A row that cannot be used, and why. Its id is its audio's path as far as there is one, else where it stands."""

    id: str
    where: str
    message: str


class Manifest(NamedTuple):
    """The rows of a corpus in the order of its files; the folder is absolute."""

    folder: Path
    rows: tuple[SpeechRow, ...]
    broken: tuple[BrokenRow, ...]


class Record(NamedTuple):
    """What an index says about a recording, nothing of it checked yet."""

    where: str
    audio: object
    text: object
    speaker: object = None
    split: object = None


class _Flaw(Exception):
    """Why a record cannot be used."""


def read_manifest(path: Path) -> Manifest:
    """The rows of a `.csv` or `.jsonl` manifest; audio paths are relative to its folder.

    Raises:
        DataError: no such file, not of these formats, no UTF-8, a header without `audio` and `text`, or no usable row.
    """
    if not path.exists():
        raise no_such(path)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    read = readers.get(path.suffix.lower())
    if read is None:
        wanted = " or ".join(SUFFIXES)
        raise DataError(f"{path} is not a {wanted} manifest", where=str(path), fix=f"give --data a {wanted} file, or a folder")
    return collect(path, path.parent.resolve(), read(path))


def collect(path: Path, folder: Path, records: Iterable[Record | BrokenRow]) -> Manifest:
    """Checks records into the rows of a corpus, each with an id of its own.

    Args:
        path: what the user gave.
        folder: absolute and free of symbolic links; audio may not lie outside of it.
        records: from the index in its order; those that cannot even be taken apart come as broken rows.

    Raises:
        DataError: no record can be used.
    """
    rows: list[SpeechRow] = []
    broken: list[BrokenRow] = []
    uses: dict[str, int] = {}
    taken: set[str] = set()
    for record in records:
        row = record if isinstance(record, BrokenRow) else check_record(folder, record)
        name = row.id
        while name in taken:
            uses[row.id] = uses.get(row.id, 1) + 1
            name = f"{row.id}#{uses[row.id]}"
        taken.add(name)
        if isinstance(row, SpeechRow):
            rows.append(row._replace(id=name))
        else:
            broken.append(row._replace(id=name))
    if not rows:
        raise _nothing_usable(path, folder, broken)
    return Manifest(folder, tuple(rows), tuple(broken))


def check_record(folder: Path, record: Record) -> SpeechRow | BrokenRow:
    """A record as a row if it has a text and names an audio file below the folder."""
    try:
        name, audio = _find_audio(folder, record.audio)
        return SpeechRow(
            id=name,
            audio=audio,
            text=_filled("text", record.text),
            speaker=_speaker(record.speaker),
            split=_split(record.split),
            where=record.where,
        )
    except _Flaw as flaw:
        return BrokenRow(_name_of(record.audio, record.where), record.where, str(flaw))


def _name_of(audio: object, where: str) -> str:
    return PurePath(audio.strip()).as_posix() if isinstance(audio, str) and audio.strip() else where


def _find_audio(folder: Path, value: object) -> tuple[str, Path]:
    """The path below the folder in its own spelling, and the whole of it."""
    name = PurePath(_filled("audio path", value))
    if name.anchor or ".." in name.parts:
        raise _Flaw(f"the audio path '{name}' should be relative to the folder of the corpus, without '..'")
    audio = folder / name
    try:
        if not Path(os.path.realpath(audio)).is_relative_to(folder):
            raise _Flaw(f"the audio path '{name}' is a link that leaves the folder of the corpus")
        is_file = audio.is_file()
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be entered, a NUL
        raise _Flaw(f"the audio path {str(name)!r} cannot be followed: {error}") from error
    if not is_file:
        raise _Flaw(f"no such audio file: {audio}")
    return name.as_posix(), audio


def _speaker(value: object) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return _string("speaker", str(value) if is_number else _or_empty(value)) or None


def _split(value: object) -> Split | None:
    name = _string("split", _or_empty(value)).lower()
    if name and name not in _SPLIT_NAMES:
        raise _Flaw(f"the split is {value!r}, expected one of {', '.join(SPLITS)}")
    return _SPLIT_NAMES.get(name)


def _or_empty(value: object) -> object:
    return "" if value is None else value


def _filled(what: str, value: object) -> str:
    text = _string(what, value)
    if not text:
        raise _Flaw(f"the {what} is empty")
    return text


def _string(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise _Flaw(f"the {what} should be a string, found {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _Flaw(f"the {what} holds half a character (a lone surrogate) at position {error.start}") from error
    return value.strip()


def _kind(value: object) -> str:
    """A value's JSON type, for messages."""
    names = {dict: "an object", list: "a list", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _read_csv(path: Path) -> Iterator[Record | BrokenRow]:
    for row in read_table(path, csv_records(path), _NEEDED):
        if isinstance(row, BrokenRow):
            yield row
        else:
            where, fields = row
            yield Record(where, *map(fields.get, FIELDS))


def read_table(
    path: Path, records: Iterator[tuple[int, list[str]]], needed: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]] | BrokenRow]:
    """`file:line` and fields by column name of the records below a header.

    Raises:
        DataError: the header lacks one of the needed columns, or has it twice.
    """
    line, header = next(records)
    columns = [name.strip() for name in header]
    check_columns(columns, needed, f"{path}:{line}")
    for line, values in records:
        where = f"{path}:{line}"
        fields = dict(zip(columns, values, strict=False))
        if len(values) == len(columns):
            yield where, fields
        else:
            hint = ": put quotes around a field with commas in it" if len(values) > len(columns) else ""
            message = f"found {len(values)} fields, expected the {len(columns)} of the header{hint}"
            yield BrokenRow(_name_of(fields.get(needed[0]), where), where, message)


def _read_jsonl(path: Path) -> Iterator[Record | BrokenRow]:
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield BrokenRow(where, where, f"broken JSON: {error}")
            continue
        if not isinstance(value, dict):
            found = "a string" if isinstance(value, str) else _kind(value)
            yield BrokenRow(where, where, f"an object was expected, found {found}")
            continue
        lacking = next((key for key in _NEEDED if key not in value), None)
        if lacking is not None:
            yield BrokenRow(_name_of(value.get("audio"), where), where, _no_key(lacking, list(value)))
        else:
            yield Record(where, *map(value.get, FIELDS))


def _no_key(name: str, keys: Sequence[str]) -> str:
    meant = meant_by(name, keys, _NEEDED)
    hint = f"; rename {meant!r}" if meant is not None else ""
    return f"no key {name!r} (found {', '.join(map(repr, keys)) or 'no keys'}){hint}"


def no_such(path: Path) -> DataError:
    """The error for a path that leads nowhere."""
    return DataError(f"no such file or folder: {path}", where=str(path), fix="check the path given to --data")


def _nothing_usable(path: Path, folder: Path, broken: Sequence[BrokenRow]) -> DataError:
    fix = f"a row needs a text and the path of an audio file, relative to {folder}"
    if not broken:
        return DataError(f"{path} has no rows", where=str(path), fix=fix)
    others = f"; {len(broken) - 1} more are broken" if len(broken) > 1 else ""
    return DataError(f"no row of {path} can be used: {broken[0].message}{others}", where=broken[0].where, fix=fix)
