"""Texts that end a reply wherever they appear in it, however it arrives."""

from collections.abc import Sequence
from typing import NamedTuple


class Released(NamedTuple):
    """Text that may be shown."""

    text: str
    stopped: bool  # whether a stop text came right after it


class StopTexts:
    """Holds text back as long as it may be the beginning of a text that ends the reply.

    Args:
        stops: such texts; none of them is ever shown.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        assert all(stops)
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> Released:
        """Take more text; of several stop texts, the one that ends first counts, and of those the longest."""
        self._held += piece
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, begin = min(found)
            return Released(self._held[:begin], stopped=True)
        text = self._held[: len(self._held) - self._longest_beginning()]
        self._held = self._held[len(text) :]
        return Released(text, stopped=False)

    def finish(self) -> str:
        """What was held back at the end of the reply, where no stop text came of it."""
        rest, self._held = self._held, ""
        return rest

    def _longest_beginning(self) -> int:
        """How much of what is held may still become a stop text."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        sizes = range(min(longest, len(self._held)), 0, -1)
        return next((size for size in sizes if any(stop.startswith(self._held[-size:]) for stop in self._stops)), 0)
