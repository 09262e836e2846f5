"""One label for an image of several objects: the category whose objects cover most of it.

Images with no object at all have nothing to be called; they are passed over, and counted. Left out on purpose: where objects are.
"""

import logging
from collections.abc import Iterable
from typing import NamedTuple

logger = logging.getLogger(__name__)


class MarkedObject(NamedTuple):
    """An object in an image."""

    category: str
    area: float
    """In any unit that is the same for all objects of the image."""


class MainObject(NamedTuple):
    """What an image is called by, and whether that was a choice."""

    category: str
    has_others: bool
    """Whether it also shows other categories."""


def choose_main_object(objects: Iterable[MarkedObject]) -> MainObject | None:
    """The category whose objects cover most, areas added up; the first named of two alike; None without objects."""
    areas: dict[str, float] = {}
    for marked in objects:
        areas[marked.category] = areas.get(marked.category, 0.0) + marked.area
    if not areas:
        return None
    return MainObject(max(areas, key=areas.__getitem__), has_others=len(areas) > 1)


def log_choices(source: str, *, labelled: int, mixed: int, empty: int) -> None:
    """Say how many images show several categories, and how many have no object and are passed over."""
    if mixed:
        logger.info(
            "%s: %s of %s images show objects of several categories; each is labelled with the one that covers most of it",
            source,
            f"{mixed:,}",
            f"{labelled:,}",
        )
    if empty:
        logger.info("%s: %s images have no object, and are passed over", source, f"{empty:,}")
