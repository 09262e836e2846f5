"""JSON files of many objects: one a line (`.jsonl`), or one list of them, or one after the other (`.json`), each with its line.

A list is read piece by piece, so that one of a gigabyte takes no more memory than its largest object.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from omnictl.data.manifest.compression import open_plain, plain_suffix
from omnictl.data.manifest.tables import read_lines, text_encoding
from omnictl.errors import DataError

JSON_SUFFIXES = (".jsonl", ".json")

MAX_CHARACTERS = 64 << 20
"""Of one object in a list."""

_PIECE = 1 << 20
_LONGEST_MARK = 16
"""Characters of what may be cut at the end of a piece: a word like `false`, an escape like `\\ud83d\\ude00`."""
_SPACE = " \t\r\n"


class JsonValue(NamedTuple):
    """A value, and where it stands; or why there is none."""

    where: str
    value: object
    flaw: str | None = None


def read_json_values(path: Path, first_line: str) -> Iterator[JsonValue]:
    """The objects of a file in their order. A line of JSONL that is broken is one flaw, in a list nothing can be read behind it.

    Args:
        path: `.jsonl` or `.json`, which may be compressed.
        first_line: what to write into it should it be empty, for the error to say.

    Raises:
        DataError: cannot be read, empty, not UTF-8, or a broken list.
    """
    if plain_suffix(path) == ".jsonl":
        yield from _read_lines(path, first_line)
    else:
        yield from _read_list(path, first_line)


def _read_lines(path: Path, first_line: str) -> Iterator[JsonValue]:
    for number, line in read_lines(path, first_line):
        where = f"{path}:{number}"
        try:
            yield JsonValue(where, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield JsonValue(where, None, f"broken JSON: {error}")


class _Text:
    """The part of a file that is in memory, and the line that it begins on."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self.text, self.place, self.line = "", 0, 1

    def read_on(self) -> bool:
        """One more piece; what was taken is let go. False at the end of the file."""
        piece = next(self._pieces, None)
        self.line += self.text.count("\n", 0, self.place)
        self.text, self.place = self.text[self.place :] + (piece or ""), 0
        return piece is not None

    def skip(self, characters: str) -> str:
        """Skip these characters; the one behind them, empty at the end of the file."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in characters:
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.read_on():
                return ""

    @property
    def line_here(self) -> int:
        return self.line + self.text.count("\n", 0, self.place)


def _read_list(path: Path, first_line: str) -> Iterator[JsonValue]:
    text = _Text(_read_pieces(path))
    character = text.skip(_SPACE)
    if not character:
        raise DataError(f"{path} is empty", where=str(path), fix=first_line)
    is_list = character == "["
    text.place += is_list
    while True:
        character = text.skip(_SPACE + ",")
        if not character and not is_list:
            return
        if character == "]" and is_list:
            text.place += 1
            rest = text.skip(_SPACE)
            if rest:
                _refuse(path, text.line_here, f"found {rest!r} behind the end of the list")
            return
        if not character:
            _refuse(path, text.line_here, "the list does not end: the file is cut off")
        yield JsonValue(f"{path}:{text.line_here}", _take_value(text, path))


def _take_value(text: _Text, path: Path) -> object:
    decoder = json.JSONDecoder()
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.place)
        except RecursionError:
            _refuse(path, text.line_here, "nested too deeply")
        except json.JSONDecodeError as error:
            line = text.line + text.text.count("\n", 0, error.pos)
            may_go_on = error.msg.startswith("Unterminated string") or error.pos > len(text.text) - _LONGEST_MARK
            if len(text.text) - text.place > MAX_CHARACTERS:
                message = f"an object of more than {MAX_CHARACTERS >> 20} million characters"
                _refuse(path, text.line_here, message, "break it into smaller objects, or take the file out of the folder")
            if not may_go_on or not text.read_on():
                _refuse(path, line, error.msg)
        except ValueError as error:  # a number with thousands of digits
            _refuse(path, text.line_here, str(error))
        else:
            if end > len(text.text) - _LONGEST_MARK and isinstance(value, int | float) and text.read_on():
                continue  # the number may go on
            text.place = end
            return value


def _read_pieces(path: Path) -> Iterator[str]:
    with open_plain(path) as file:
        data = file.read(_PIECE)
        decoder = codecs.getincrementaldecoder(text_encoding(data))()
        is_end = False
        while not is_end:
            is_end = not data
            try:
                yield decoder.decode(data, final=is_end)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x}",
                    where=str(path),
                    fix="convert it to UTF-8 (`iconv -f latin1 -t utf-8`)",
                ) from error
            data = file.read(_PIECE)


def _refuse(path: Path, line: int, flaw: str, fix: str = "mend the file there, or download it anew") -> NoReturn:
    raise DataError(f"broken JSON: {flaw}", where=f"{path}:{line}", fix=fix)
