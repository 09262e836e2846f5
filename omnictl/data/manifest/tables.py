"""Tables in text files: lines and CSV records with the numbers of their lines, and the columns that a header has to name.

What cannot be read at all is a `DataError` with file and line; what a record means is for `manifest` and the layouts to say.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from omnictl.config.suggest import nearest
from omnictl.data.manifest.compression import open_plain, read_raw_lines
from omnictl.errors import DataError

LARGEST_TABLE = 2**28
"""Bytes of a manifest or another table that is read at once."""

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


_PIECE = 1 << 16

DELIMITERS = (",", "\t", ";")


class ColumnGuess(NamedTuple):
    """A name that is needed, and what was probably found in its place."""

    name: str
    column: str


def read_lines(path: Path, first_line: str) -> Iterator[tuple[int, str]]:
    r"""Numbered lines without their ends, blank ones left out. Only `\n` ends a line: a transcript may hold what else does.

    Args:
        path: of the file, which may be compressed.
        first_line: what to write into it should it be empty, for the error to say.

    Raises:
        DataError: the system refuses, nothing but white space, or bytes that are not UTF-8.
    """
    is_empty = True
    for number, line in _decoded_lines(path):
        if line and not line.isspace():
            is_empty = False
            yield number, line.removesuffix("\n").removesuffix("\r")
    if is_empty:
        raise _empty_error(path, first_line)


def _decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with open_plain(path) as file:
            if text_encoding(file.peek(2)) == "utf-16":
                yield from utf16_lines(file)
                return
            for number, data in enumerate(read_raw_lines(file, path), start=1):
                yield number, data.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _encoding_error(path, error, number) from error


def utf16_lines(file: io.BufferedReader) -> Iterator[tuple[int, str]]:
    """Numbered lines of UTF-16 with their ends; raises `UnicodeDecodeError` where it is broken."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    number, rest, is_end = 0, "", False
    while not is_end:
        data = file.read(_PIECE)
        is_end = not data
        *lines, rest = (rest + decoder.decode(data, final=is_end)).split("\n")
        for line in lines:
            number += 1
            yield number, f"{line}\n"
    if rest:
        yield number + 1, rest


def _encoding_error(path: Path, error: UnicodeDecodeError, line: int) -> DataError:
    return DataError(
        f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} in line {line}",
        where=f"{path}:{line}",
        fix=f"convert it to UTF-8 (`iconv -f {guess_encoding(error)} -t utf-8`)",
    )


def _empty_error(path: Path, first_line: str) -> DataError:
    return DataError(f"{path} is empty", where=str(path), fix=first_line)


def read_text(path: Path, first_line: str, *, most: int = LARGEST_TABLE) -> str:
    """A whole text file, line ends as they are.

    Args:
        path: of the file.
        first_line: what to write into it should it be empty, for the error to say.
        most: bytes that are read; a longer file is refused.

    Raises:
        DataError: the system refuses, too long, nothing but white space, or bytes that are not UTF-8.
    """
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise DataError(
            f"{path} is larger than {most >> 20:,} MiB, which is the most that is read of such a file",
            where=str(path),
            fix="break it into several, each of a part of the corpus",
        )
    try:
        text = data.decode(text_encoding(data))
    except UnicodeDecodeError as error:
        before = error.object[: error.start]  # without the byte order mark
        raise _encoding_error(path, error, before.count(10) + 1) from error
    if not text or text.isspace():
        raise _empty_error(path, first_line)
    return text


def text_encoding(beginning: bytes) -> Literal["utf-8-sig", "utf-16"]:
    """The encoding of a text file: UTF-16 if its byte order mark says so, as Windows programs write it, else UTF-8."""
    return "utf-16" if beginning[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def guess_encoding(error: UnicodeDecodeError) -> str:
    """What bytes that are not UTF-8 probably are: zeros stand beside every letter of UTF-16."""
    return "utf-16" if b"\0" in error.object[:100] else "latin1"


def find_delimiter(header: str) -> str:
    """What stands between the names of columns: a comma, or the tab or semicolon that is there more often."""
    return max(DELIMITERS, key=header.count)


def parse_header(line: str) -> list[str]:
    """The names of columns that the first line of a table has."""
    return [name.strip() for name in next(csv.reader([line], delimiter=find_delimiter(line)), [])]


def csv_records(path: Path, first_line: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every record that is not a blank line, and the line that it starts on.

    Raises:
        DataError: quotes that do not close or do not stand around a whole field: where records end is anybody's guess.
    """
    text = read_text(path, first_line)
    delimiter = find_delimiter(text.lstrip().partition("\n")[0].partition("\r")[0])
    if delimiter == "\t":
        yield from _tab_records(text)
        return
    # A quote after ", " is meant as one; strict, or an open quote would swallow the rows below it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
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


def _tab_records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Between tabs, quotes stand for themselves, unless they stand around a whole field."""
    for number, line in enumerate(text.split("\n" if "\n" in text else "\r"), start=1):
        if line.strip():
            yield number, [_unquote(field) for field in line.removesuffix("\r").split("\t")]


def _unquote(field: str) -> str:
    is_quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")
    return field[1:-1].replace('""', '"') if is_quoted else field


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
    if len(columns) == 1 and "|" in columns[0]:
        fix = "separate the columns by commas, semicolons or tabs"
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
