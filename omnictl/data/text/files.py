"""Reads text out of `.txt`, `.jsonl` and `.parquet` files, one row a document, a few rows in memory at a time.

What cannot be read is a `DataError` with file and line; nothing is skipped but documents of white space alone.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.data.manifest.rows import json_type
from omnictl.data.manifest.tables import open_bytes
from omnictl.errors import DataError

SUFFIXES = (".jsonl", ".parquet", ".txt")


class TextRow(NamedTuple):
    """A document, and the split its file puts it in, if it does."""

    text: str
    split: Split | None = None


def find_text_files(path: Path) -> list[Path]:
    """The file itself, or every text file of a folder and its subfolders, in the order of their paths, none hidden.

    Raises:
        DataError: no such path, a suffix that is not read, a folder without text files, or no bytes in any.
    """
    wanted = ", ".join(SUFFIXES)
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", where=str(path), fix="check the path given to --data")
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _is_visible_text_file(file, path)]
        if not files:
            raise DataError(f"{path} has no {wanted} file", where=str(path), fix=f"give --data a folder of {wanted} files")
    elif path.suffix.lower() in SUFFIXES:
        files = [path]
    else:
        raise DataError(f"{path} is not one of {wanted}", where=str(path), fix="rename or convert it to one of these formats")
    if not any(file.stat().st_size for file in files):
        raise empty_text_error(path)
    return files


def _is_visible_text_file(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in SUFFIXES and file.is_file() and not hidden


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
    read = {".txt": _read_txt, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[path.suffix.lower()]
    return (row for row in read(path) if row.text and not row.text.isspace())


def read_whole(path: Path) -> Iterator[str]:
    """A `.txt` file as one text, every character of it; the rows of the other formats."""
    if path.suffix.lower() == ".txt":
        yield "".join(line for _, line in _lines(path))
    else:
        yield from (row.text for row in read_rows(path))


def _read_txt(path: Path) -> Iterator[TextRow]:
    block: list[str] = []
    num_blank = 0
    for _, line in _lines(path):
        is_mark = line.strip() == "<|endoftext|>"
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
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if b"\0" in line:
                raise _not_text(path, number, offset + line.index(b"\0"), "a NUL byte")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_text(path, number, offset + error.start, f"byte 0x{line[error.start]:02x}") from error
            yield number, text.removeprefix("\ufeff") if number == 1 else text
            offset += len(line)


def _not_text(path: Path, number: int, offset: int, culprit: str) -> DataError:
    return DataError(
        f"{path} is not UTF-8 text: {culprit} at offset {offset}",
        where=f"{path}:{number}",
        fix="give a text file, or convert this one to UTF-8 (`iconv -f latin1 -t utf-8`)",
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
        if not isinstance(value, dict):
            raise DataError(
                f"an object was expected, found {json_type(value)}",
                where=where,
                fix='write one object a line: {"text": "..."}',
            )
        if "text" not in value:
            keys = ", ".join(map(repr, value)) or "no keys"
            raise DataError(f"no key 'text' (found {keys})", where=where, fix="put the document's text under the key 'text'")
        yield _row(value["text"], value.get("split"), where)


def _read_parquet(path: Path) -> Iterator[TextRow]:
    """Column `text`, and `split` if there is one."""
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")  # an optional dependency
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow", where=str(path), fix="pip install 'omnictl[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            for number, value in enumerate(_records(file, path), start=1):
                yield _row(value["text"], value.get("split"), f"{path}: row {number}")
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}", where=str(path), fix="write or download it anew") from error


def _records(file: Any, path: Path) -> Iterator[dict[str, object]]:
    names = file.schema_arrow.names
    if "text" not in names:
        raise DataError(
            f"no column 'text' (found {', '.join(map(repr, names))})",
            where=str(path),
            fix="rename the column that holds the text to 'text'",
        )
    for batch in file.iter_batches(batch_size=1024, columns=[name for name in ("text", "split") if name in names]):
        yield from batch.to_pylist()


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
