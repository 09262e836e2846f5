"""A run's logs, one JSON object a line, read as far as they can be: a power cut leaves anything at the end of a file."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.errors import RunError
from omnictl.regular_files import MIB, open_regular

logger = logging.getLogger(__name__)

LONGEST_LINE = MIB
"""Bytes; a line of metrics has a few hundred."""


class LogLine(NamedTuple):
    """A line: its bytes with their end, and its values, a whole number `step` among them."""

    raw: bytes
    values: dict[str, Any]


class Log(NamedTuple):
    """The lines of a log up to one that cannot be read, and what is wrong with that."""

    lines: list[LogLine]
    problem: str | None
    """None if all can be read; a last line without its end is being written, and left out without a word."""


def read_log(path: Path) -> Log | None:
    """The lines of a log; None if there is no file.

    Raises:
        RunError: it is no regular file, or the system refuses.
    """
    if not path.exists():
        return None
    lines: list[LogLine] = []
    try:
        for raw in _raw_lines(path):
            values = _values(raw)
            if values is None or type(values.get("step")) is not int:
                whole = raw.endswith(b"\n") or len(raw) > LONGEST_LINE
                return Log(lines, f"line {len(lines) + 1} of {path} cannot be read" if whole else None)
            lines.append(LogLine(raw, values))
    except OSError as error:
        fix = f"make it a readable file, or remove it (rm -r {path})"
        raise RunError(f"cannot read {path}: {error.strerror}", where=str(path), fix=fix) from error
    return Log(lines, None)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, which a training may still be writing; none if there is no file.

    A line that cannot be read is where it ends, with a warning unless it is still being written.
    """
    if not path.is_file():
        return
    for number, raw in enumerate(_raw_lines(path), start=1):
        values = _values(raw)
        if values is not None:
            yield values
            continue
        if raw.endswith(b"\n"):
            logger.warning("line %d of %s cannot be read: what follows is left out", number, path)
        return


def _raw_lines(path: Path) -> Iterator[bytes]:
    with open_regular(path) as file:
        while raw := file.readline(LONGEST_LINE + 1):
            yield raw


def _values(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):  # of UTF-8 as of JSON
        return None
    return values if isinstance(values, dict) else None
