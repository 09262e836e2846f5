"""Tables in text files: lines and CSV records with the numbers of their lines, and the columns that a header has to name.

What cannot be read at all is a `DataError` with file and line; what a record means is for `manifest` and the layouts to say.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from omnictl.config.suggest import nearest
from omnictl.errors import DataError

_OTHER_NAMES = {
    "audio": ("audio_filepath", "path", "file", "file_name", "filename", "wav", "clip"),
    "text": ("sentence", "transcript", "transcription", "normalized_text", "caption"),
    "path": ("audio", "clip", "file"),
    "sentence": ("text", "transcript", "transcription"),
    "image": ("image_path", "img", "path", "file", "file_name", "filename", "picture", "photo"),
    "label": ("class", "category", "target", "class_name"),
    "caption": ("text", "description", "sentence", "title"),
}
"""What other corpora call a column."""


class ColumnGuess(NamedTuple):
    """A name that is needed, and what was probably found in its place."""

    name: str
    column: str


def open_bytes(path: Path) -> BufferedReader:
    """The file, to read bytes from.

    Raises:
        DataError: the system refuses.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", where=str(path), fix="make it readable for this user") from error


def read_lines(path: Path, first_line: str) -> Iterator[tuple[int, str]]:
    r"""Numbered lines without their ends, blank ones left out. Only `\n` ends a line: a transcript may hold what else does."""
    for number, line in enumerate(io.StringIO(read_text(path, first_line), newline="\n"), start=1):
        if not line.isspace():
            yield number, line.removesuffix("\n").removesuffix("\r")


def read_text(path: Path, first_line: str) -> str:
    """A whole text file, line ends as they are.

    Args:
        path: of the file.
        first_line: what to write into it should it be empty, for the error to say.

    Raises:
        DataError: the system refuses, nothing but white space, or bytes that are not UTF-8.
    """
    with open_bytes(path) as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]  # without the byte order mark
        raise DataError(
            f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} in line {before.count(10) + 1}",
            where=f"{path}:{before.count(10) + 1}",
            fix="convert it to UTF-8 (`iconv -f latin1 -t utf-8`)",
        ) from error
    if not text or text.isspace():
        raise DataError(f"{path} is empty", where=str(path), fix=first_line)
    return text


def csv_records(path: Path, first_line: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every record that is not a blank line, and the line that it starts on.

    Raises:
        DataError: quotes that do not close or do not stand around a whole field: where records end is anybody's guess.
    """
    # A quote after ", " is meant as one; strict, or an open quote would swallow the rows below it.
    reader = csv.reader(io.StringIO(read_text(path, first_line), newline=""), skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"broken quotes in lines {line} to {reader.line_num}: {error}",
                where=f"{path}:{line}",
                fix='put quotes around the whole field, and write a quote inside it twice: "the ""best"" one"',
            ) from error
        if len(fields) > 1 or "".join(fields).strip():
            yield line, fields


def check_columns(columns: Sequence[str], needed: Sequence[Sequence[str]], where: str) -> None:
    """Check that a header has a column of every needed group, and none of these twice.

    Raises:
        DataError: a group is missing, or a column appears twice.
    """
    for group in needed:
        repeated = next((name for name in group if columns.count(name) > 1), None)
        if repeated is not None:
            raise DataError(f"two columns are called {repeated!r}", where=where, fix="keep one of them")
        if not any(name in columns for name in group):
            raise _no_column(group, columns, needed, where)


def _no_column(group: Sequence[str], columns: Sequence[str], needed: Sequence[Sequence[str]], where: str) -> DataError:
    names = " or ".join(map(repr, group))
    guess = guess_column(group, columns, needed)
    if len(columns) == 1 and any(separator in columns[0] for separator in ";\t|"):
        fix = "separate the columns by commas"
    elif guess is not None:
        fix = f"rename the column {guess.column!r} to {guess.name!r}"
    else:
        fix = f"start the file with a line that names its columns, {names} among them"
    return DataError(f"no column {names} (found {', '.join(map(repr, columns))})", where=where, fix=fix)


def guess_column(group: Sequence[str], columns: Sequence[str], needed: Sequence[Sequence[str]]) -> ColumnGuess | None:
    """Which of the names found is probably meant as one of the group; one with a dot is a file, in a table without header."""
    needed_names = set(chain.from_iterable(needed))
    by_lower = {other.lower(): other for other in columns if other not in needed_names and "." not in other}
    for name in group:
        usual_name = next((other for other in _OTHER_NAMES[name] if other in by_lower), None)
        close = usual_name or nearest(name, list(by_lower))
        if close is not None:
            return ColumnGuess(name, by_lower[close])
    return None
