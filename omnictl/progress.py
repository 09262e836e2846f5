"""Work that takes a while says in the log how far it is."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SECONDS_BETWEEN_NOTES = 5.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


def log_progress(items: Iterable[T], doing: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """The same items, with a line in the log every few seconds; `unit` names what `total` counts."""
    began = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_NOTES:
            last = now
            left = (
                ""
                if total is None
                else f" of {total:,} {unit}".rstrip() + f", {(now - began) / number * (total - number):.0f} s left"
            )
            logger.info("%s: %s%s", doing, f"{number:,}", left)
