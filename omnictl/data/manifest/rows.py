"""What every corpus of files has: rows of a file and what is said about it, from a table with a header (CSV, TSV) or JSON.

A `Schema` says what a row of speech or of images holds; paths, names, splits and tables are judged alike for both. A row that
cannot be used becomes a `BrokenRow`, for the caller to count and report; a file that cannot be read as a manifest is a
`DataError` with file and line. No media is decoded here.
"""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Generic, NamedTuple, TypeVar

from omnictl.config.split import SPLITS, Split
from omnictl.data.manifest.compression import plain_suffix
from omnictl.data.manifest.json_objects import JSON_SUFFIXES, read_json_values
from omnictl.data.manifest.tables import check_columns, csv_records, guess_column
from omnictl.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl")
"""Of the manifests that a folder may have; each may be compressed."""
_SPLIT_NAMES: dict[str, Split] = {**{name: name for name in SPLITS}, "validation": "val", "valid": "val", "dev": "val"}

_SHOWN_KEYS, _SHOWN_FILES = 8, 3

logger = logging.getLogger(__name__)

Row = TypeVar("Row")


class BrokenRow(NamedTuple):
    """A row that cannot be used, and why. Its id is its file's path as far as there is one, else where it stands."""

    id: str
    where: str
    message: str


class Record(NamedTuple):
    """What an index says about a file under the keys of a manifest, nothing of it checked yet."""

    where: str
    fields: Mapping[str, object]


class Manifest(NamedTuple, Generic[Row]):
    """The rows of a corpus in the order of its files; the folder is absolute."""

    folder: Path
    rows: tuple[Row, ...]
    broken: tuple[BrokenRow, ...]


class Flaw(Exception):
    """Why a record cannot be used."""


@dataclass(frozen=True)
class Schema(Generic[Row]):
    """What the rows of a kind of corpus hold, and how they are told from what an index says."""

    file: str
    """The key of the path: `audio`, `image`."""
    known: tuple[str, ...]
    """The keys that are read."""
    needed: tuple[tuple[str, ...], ...]
    """The keys that a manifest has to name, one of each group; that of the path comes first."""
    row: Callable[[str, Path, Record], Row]
    """From its id, its file and the rest. Raises `Flaw`."""
    needs: str
    """What a row needs, for messages."""
    first_line: str
    """What to write into an empty manifest."""

    def read(self, path: Path) -> Manifest[Row]:
        """The rows of a `.csv`, `.tsv`, `.jsonl` or `.json` manifest; paths are relative to its folder.

        Raises:
            DataError: no such file, not of these formats, not valid UTF-8, a header without what is needed, or no usable row.
        """
        if not path.exists():
            raise missing_path_error(path)
        readers = {".csv": self._read_csv, ".tsv": self._read_csv, **dict.fromkeys(JSON_SUFFIXES, self._read_json)}
        read = readers.get(plain_suffix(path))
        if read is None:
            wanted = ", ".join(readers)
            fix = f"give --data a {wanted} file, or a folder"
            raise DataError(f"{path} is not a {wanted} manifest", where=str(path), fix=fix)
        return self.collect(path, path.parent.resolve(), read(path))

    def collect(
        self, path: Path, folder: Path, records: Iterable[Record | BrokenRow], *, follow_links: bool = False
    ) -> Manifest[Row]:
        """Checks records into the rows of a corpus, each with an id of its own.

        Args:
            path: what the user gave.
            folder: absolute and free of symbolic links; files may not lie outside of it.
            records: from the index in its order; those that cannot even be taken apart come as broken rows.
            follow_links: also out of the folder, where no index but the folder itself names the files.

        Raises:
            DataError: no record can be used.
        """
        rows: list[Row] = []
        broken: list[BrokenRow] = []
        ids, unread = _UniqueIds(), Counter[str]()
        find = cache(
            partial(find_media_file, self.file, folder, follow_links=follow_links)
        )  # of some images there are several rows
        for record in records:
            if isinstance(record, BrokenRow):
                broken.append(record._replace(id=ids.unique(record.id)))
                continue
            unread.update(key for key, value in record.fields.items() if key not in self.known and value not in (None, "", [], {}))
            value = record.fields.get(self.file)
            name = ids.unique(_name_of(value, record.where))
            try:
                rows.append(self.row(name, find(require_text(f"{self.file} path", value)), record))
            except Flaw as flaw:
                broken.append(BrokenRow(name, record.where, str(flaw)))
        log_unread_keys(str(path), unread)
        if not rows:
            raise self._nothing_usable(path, folder, broken)
        return Manifest(folder, tuple(rows), tuple(broken))

    def _read_csv(self, path: Path) -> Iterator[Record | BrokenRow]:
        return read_table(path, csv_records(path, self.first_line), self.needed)

    def _read_json(self, path: Path) -> Iterator[Record | BrokenRow]:
        for where, value, flaw in read_json_values(path, self.first_line):
            if flaw is not None:
                yield BrokenRow(where, where, flaw)
                continue
            if not isinstance(value, dict):
                yield BrokenRow(where, where, f"an object was expected, found {json_type(value)}")
                continue
            missing = next((group for group in self.needed if not any(key in value for key in group)), None)
            if missing is not None:
                yield BrokenRow(_name_of(value.get(self.file), where), where, self._no_key(missing, list(value)))
            else:
                yield Record(where, value)

    def _no_key(self, group: Sequence[str], keys: Sequence[str]) -> str:
        guess = guess_column(group, keys, self.needed)
        hint = f"; rename {guess.column!r}" if guess is not None else ""
        if guess is not None and len(group) > 1:
            hint += f" to {guess.name!r}"
        return f"no key {' or '.join(map(repr, group))} (found {', '.join(map(repr, keys)) or 'no keys'}){hint}"

    def _nothing_usable(self, path: Path, folder: Path, broken: Sequence[BrokenRow]) -> DataError:
        fix = f"a row needs {self.needs}, relative to {folder}"
        if not broken:
            return DataError(f"{path} has no rows", where=str(path), fix=fix)
        others = f"; {len(broken) - 1} more are broken" if len(broken) > 1 else ""
        return DataError(f"no row of {path} can be used: {broken[0].message}{others}", where=broken[0].where, fix=fix)


def log_unread_keys(source: str, unread: Counter[str]) -> None:
    """Say which columns or keys of a corpus are not read, each once, with the number of rows that have something there."""
    if unread:
        shown = ", ".join(f"{key!r} ({count:,})" for key, count in unread.most_common(_SHOWN_KEYS))
        more = f" and {len(unread) - _SHOWN_KEYS} more" if len(unread) > _SHOWN_KEYS else ""
        logger.info("%s: columns or keys that are not read: %s%s", source, shown, more)


def log_passed_over(folder: Path, files: Sequence[Path], reason: str) -> None:
    """Say which files of a folder are not read.

    Args:
        folder: that was given.
        files: in it.
        reason: what they are passed over as: "no text of the corpus".
    """
    if files:
        kinds = Counter(file.suffix.lower() or "no suffix" for file in files)
        names = ", ".join(str(file.relative_to(folder)) for file in files[:_SHOWN_FILES])
        more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
        suffixes = ", ".join(f"{count:,} {suffix}" for suffix, count in kinds.most_common())
        number = "1 file is" if len(files) == 1 else f"{len(files):,} files are"
        logger.info("%s: %s passed over as %s (%s): %s%s", folder, number, reason, suffixes, names, more)


def read_table(
    path: Path, records: Iterator[tuple[int, list[str]]], needed: Sequence[Sequence[str]]
) -> Iterator[Record | BrokenRow]:
    """The records below a header, their fields by column name.

    Raises:
        DataError: the header lacks all columns of a needed group, or has one of them twice.
    """
    line, header = next(records)
    columns = [name.strip() for name in header]
    check_columns(columns, needed, f"{path}:{line}")
    for line, values in records:
        where = f"{path}:{line}"
        fields = dict(zip(columns, values, strict=False))
        if len(values) == len(columns):
            yield Record(where, fields)
        else:
            hint = ": put quotes around a field that holds a separator" if len(values) > len(columns) else ""
            message = f"found {len(values)} fields, expected the {len(columns)} of the header{hint}"
            yield BrokenRow(_name_of(fields.get(needed[0][0]), where), where, message)


class _UniqueIds:
    """Gives every row a name of its own: one that comes again is `#2`, `#3`."""

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}
        self._taken: set[str] = set()

    def unique(self, name: str) -> str:
        candidate = name
        while candidate in self._taken:
            self._uses[name] = self._uses.get(name, 1) + 1
            candidate = f"{name}#{self._uses[name]}"
        self._taken.add(candidate)
        return candidate


def _name_of(file: object, where: str) -> str:
    """The path below the folder in its own spelling, if it is one at all."""
    return PurePath(file.strip()).as_posix() if isinstance(file, str) and file.strip() else where


def find_media_file(kind: str, folder: Path, path: str, *, follow_links: bool = False) -> Path:
    """The file that a row names by its path below the folder of its corpus.

    Links may not lead out of it, unless they are to be followed, or those of a snapshot that `huggingface_hub` keeps.

    Raises:
        Flaw: there is none, or it lies elsewhere.
    """
    name = PurePath(path)
    if name.anchor or ".." in name.parts:
        raise Flaw(f"the {kind} path '{name}' should be relative to the folder of the corpus, without '..'")
    file = folder / name
    try:
        if not file.is_file():
            file = _in_other_form(folder, path) or file
        if not follow_links and not _lies_in(Path(os.path.realpath(file)), folder):
            raise Flaw(f"the {kind} path '{name}' is a link that leaves the folder of the corpus")
        is_file = file.is_file()
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be entered, a NUL
        raise Flaw(f"the {kind} path {str(name)!r} cannot be followed: {error}") from error
    if not is_file:
        raise Flaw(f"no such {kind} file: {file}")
    return file


def _in_other_form(folder: Path, path: str) -> Path | None:
    """The file whose name is the same but for Unicode's normal form: a Mac writes é as two characters, others as one."""
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((file for form in forms if form != path and (file := folder / form).is_file()), None)


def _lies_in(file: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, or in that of the blobs which a hub's snapshot, `snapshots/REVISION`, consists of."""
    blobs = folder.parent.parent / "blobs"
    return file.is_relative_to(folder) or (folder.parent.name == "snapshots" and file.is_relative_to(blobs))


def parse_split(name: str) -> Split | None:
    """The split that a word means, as in `valid` or `Dev`; None if it is no such word."""
    return _SPLIT_NAMES.get(name.lower())


def read_split(value: object) -> Split | None:
    """The split that a row names, if it names one.

    Raises:
        Flaw: it is none of them.
    """
    name = optional_text("split", value)
    split = parse_split(name or "")
    if name is not None and split is None:
        raise Flaw(f"the split is {value!r}, expected one of {', '.join(SPLITS)}")
    return split


def require_text(name: str, value: object) -> str:
    """A string without white space around it.

    Raises:
        Flaw: none, or an empty one.
    """
    text = _string(name, value)
    if not text:
        raise Flaw(f"the {name} is empty")
    return text


def optional_text(name: str, value: object) -> str | None:
    """A string without white space around it; None if it is empty or null.

    Raises:
        Flaw: something else.
    """
    return None if value is None else _string(name, value) or None


def _string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise Flaw(f"the {name} should be a string, found {json_type(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Flaw(f"the {name} holds half a character (a lone surrogate) at position {error.start}") from error
    return value.strip()


def json_type(value: object) -> str:
    """A value's JSON type, for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def missing_path_error(path: Path) -> DataError:
    """The error for a path that leads nowhere."""
    return DataError(f"no such file or folder: {path}", where=str(path), fix="check the path given to --data")
