"""Reads text out of `.txt`, `.jsonl`, `.json`, `.parquet` and `.arrow` files, one row a document, a few rows in memory at a time.

What cannot be read is a `DataError` with file and line; nothing is skipped but documents of white space alone.
"""

import json
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path, PurePath
from typing import NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.data.manifest.compression import is_packed, open_plain, plain_suffix, read_raw_lines
from omnictl.data.manifest.json_objects import read_json_values
from omnictl.data.manifest.rows import json_type, log_passed_over
from omnictl.data.manifest.tables import guess_encoding, text_encoding, utf16_lines
from omnictl.data.packed.arrow_tables import TABLE_SUFFIXES, is_datasets_cache, open_table
from omnictl.errors import DataError

SUFFIXES = (".arrow", ".json", ".jsonl", ".parquet", ".txt")
"""Of files of text; `.json`, `.jsonl` and `.txt` may be compressed (`.gz`, `.zst`)."""

_FIELDS = ("text", "split")

_NOT_PART_OF_IT = ("readme", "license", "licence", "changelog", "requirements")
"""Names of texts that lie beside a corpus and say something about it."""


class TextRow(NamedTuple):
    """A document, and the split its file puts it in, if it does."""

    text: str
    split: Split | None = None
    unread: tuple[str, ...] = ()
    """Keys or columns beside these two, which are passed over."""


def find_text_files(path: Path) -> list[Path]:
    """The file itself, or every text file of a folder and its subfolders, in the order of their paths, none hidden.

    What of a folder is passed over is logged.

    Raises:
        DataError: no such path, a suffix that is not read, a folder without text files, or no bytes in any.
    """
    wanted = ", ".join(SUFFIXES)
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", where=str(path), fix="check the path given to --data")
    if path.is_dir():
        visible = list_files(path)
        texts = [file for file in visible if is_text_file(file)]
        files = [file for file in texts if not tells_about_others(file)] or texts
        if not files:
            raise DataError(f"{path} has no {wanted} file", where=str(path), fix=f"give --data a folder of {wanted} files")
        log_passed_over(path, sorted(set(visible) - set(files)), "no text of the corpus")
    elif is_text_name(path):
        files = [path]
    else:
        raise DataError(f"{path} is not one of {wanted}", where=str(path), fix="rename or convert it to one of these formats")
    if not any(file.stat().st_size for file in files):
        raise empty_text_error(path)
    return files


def list_files(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders in the order of their paths, none hidden; links followed, each folder once."""
    files: list[Path] = []
    seen: set[Path] = set()
    folders = [folder]
    while folders:
        current = folders.pop()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = list(current.iterdir())
        except OSError as error:
            message = f"cannot read {current}: {error.strerror}"
            raise DataError(message, where=str(current), fix="make it readable for this user") from error
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        files += [entry for entry in visible if entry.is_file()]
        folders += [entry for entry in visible if entry.is_dir()]
    return sorted(files)


def is_text_name(file: PurePath) -> bool:
    """Whether a file's name is one of a file of text."""
    return plain_suffix(file) in SUFFIXES and not (is_packed(file) and plain_suffix(file) in TABLE_SUFFIXES)


def is_text_file(file: Path) -> bool:
    """Whether a file is one of text by its name; of JSON and tables, only what has a text, for they may hold anything."""
    suffix = plain_suffix(file)
    if not is_text_name(file) or is_datasets_cache(file):
        return False
    if suffix == ".json":
        return _first_json_has_text(file)
    if suffix == ".arrow":
        with open_table(file) as table:
            return "text" in table.columns
    return True


def _first_json_has_text(file: Path) -> bool:
    try:
        first = next(read_json_values(file, ""), None)
    except DataError:
        return False
    return first is not None and isinstance(first.value, dict) and "text" in first.value


def tells_about_others(file: Path) -> bool:
    """Whether a file's name is one of a text about the corpus that it lies beside."""
    return plain_suffix(file) == ".txt" and file.name.lower().split(".")[0] in _NOT_PART_OF_IT


def empty_text_error(path: Path) -> DataError:
    """The error for text files without text."""
    return DataError(f"{path} is empty: no text in it", where=str(path), fix="give --data a file with text in it")


def read_rows(path: Path) -> Iterator[TextRow]:
    """The documents of a file.

    A `.txt` file's documents stand apart by two or more blank lines, or by a line `<|endoftext|>` (as in public dumps).
    Documents of white space alone hold nothing to learn and are left out.

    Raises:
        DataError: see the readers below.
    """
    readers = {".txt": _read_txt, ".jsonl": _read_jsonl, ".json": _read_json, **dict.fromkeys(TABLE_SUFFIXES, _read_table)}
    return (row for row in readers[plain_suffix(path)](path) if row.text and not row.text.isspace())


def read_whole(path: Path) -> Iterator[TextRow]:
    """The same, but texts of a `.txt` file stand apart by such lines alone: blank lines stay, as does every other character."""
    rows = _read_marked_txt(path) if plain_suffix(path) == ".txt" else read_rows(path)
    return (row for row in rows if row.text and not row.text.isspace())


def _read_marked_txt(path: Path) -> Iterator[TextRow]:
    text: list[str] = []
    for _, line in _lines(path):
        if _is_mark(line):
            yield TextRow("".join(text))
            text = []
        else:
            text.append(line)
    yield TextRow("".join(text))


def _is_mark(line: str) -> bool:
    return line.strip() == "<|endoftext|>"


def _read_txt(path: Path) -> Iterator[TextRow]:
    block: list[str] = []
    num_blank = 0
    for _, line in _lines(path):
        is_mark = _is_mark(line)
        if is_mark or (num_blank >= 2 and not line.isspace()):
            yield TextRow("".join(block).rstrip())
            block = []
        if not is_mark:
            block.append(line)
        num_blank = num_blank + 1 if line.isspace() else 0
    yield TextRow("".join(block).rstrip())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends.

    Raises:
        DataError: a NUL byte, or bytes that are not UTF-8.
    """
    offset = 0
    with open_plain(path) as file:
        if text_encoding(file.peek(2)) == "utf-16":
            yield from _utf16_lines(file, path)
            return
        for number, line in enumerate(read_raw_lines(file, path), start=1):
            if b"\0" in line:
                fix = "iconv -f utf-16 -t utf-8" if line.count(0) > len(line) // 4 else ""
                raise _not_text(path, number, offset + line.index(b"\0"), "a NUL byte", fix)
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                convert = f"iconv -f {guess_encoding(error)} -t utf-8"
                raise _not_text(path, number, offset + error.start, f"byte 0x{line[error.start]:02x}", convert) from error
            yield number, text.removeprefix("\ufeff") if number == 1 else text
            offset += len(line)


def _utf16_lines(file: BufferedReader, path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in utf16_lines(file):
            yield number, line
    except UnicodeDecodeError as error:
        raise _not_text(path, number + 1, 0, "broken UTF-16", "") from error


def _not_text(path: Path, number: int, offset: int, culprit: str, convert: str) -> DataError:
    return DataError(
        f"{path} is not UTF-8 text: {culprit} at offset {offset}",
        where=f"{path}:{number}",
        fix=f"convert this one to UTF-8 (`{convert}`)" if convert else "give a text file",
    )


def _read_jsonl(path: Path) -> Iterator[TextRow]:
    for number, line in _lines(path):
        if line.isspace():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"broken JSON: {error}", where=where, fix='write one object a line: {"text": "..."}') from error
        yield _json_row(value, where)


def _read_json(path: Path) -> Iterator[TextRow]:
    for where, value, _ in read_json_values(path, 'write one object a line: {"text": "..."}'):
        yield _json_row(value, where)


def _json_row(value: object, where: str) -> TextRow:
    if not isinstance(value, dict):
        raise DataError(
            f"an object was expected, found {json_type(value)}",
            where=where,
            fix='write one object a line: {"text": "..."}',
        )
    if "text" not in value:
        keys = ", ".join(map(repr, value)) or "no keys"
        raise DataError(f"no key 'text' (found {keys})", where=where, fix="put the document's text under the key 'text'")
    unread = tuple(key for key, content in value.items() if key not in _FIELDS and content not in (None, "", [], {}))
    return _row(value["text"], value.get("split"), where)._replace(unread=unread)


def _read_table(path: Path) -> Iterator[TextRow]:
    """Column `text`, and `split` if there is one."""
    with open_table(path) as table:
        if "text" not in table.columns:
            raise DataError(
                f"no column 'text' (found {', '.join(map(repr, table.columns))})",
                where=str(path),
                fix="rename the column that holds the text to 'text'",
            )
        columns = [name for name in _FIELDS if name in table.columns]
        unread = tuple(name for name in table.columns if name not in _FIELDS)
        for number, value in enumerate(table.rows(1024, columns), start=1):
            yield _row(value["text"], value.get("split"), f"{path}: row {number}")._replace(unread=unread)


def _row(text: object, split: object, where: str) -> TextRow:
    if not isinstance(text, str):
        raise DataError(f"'text' should be a string, found {json_type(text)}", where=where, fix="write the text as a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"'text' holds half a character (a lone surrogate) at position {error.start}",
            where=where,
            fix="write the character whole, as UTF-8 or as both halves of its \\u escape",
        ) from error
    if split is None:
        return TextRow(text)
    for name in SPLITS:
        if name == split:
            return TextRow(text, name)
    raise DataError(f"'split' is {split!r}", where=where, fix=f"use one of {', '.join(SPLITS)}, or leave it out")
