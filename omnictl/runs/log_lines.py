"""Reading the logs of a training while it may still be writing them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, none if there is none.

    A line that cannot be read, usual after a power cut, is where it ends, with a warning unless it is still being written.
    """
    if not file.is_file():
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            values = _values(line)
            if values is not None:
                yield values
                continue
            if line.endswith(b"\n"):
                logger.warning("line %d of %s cannot be read: what follows is left out", number, file)
            return


def _values(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
