"""What keeps a terminal, and a full disk behind it, from harm: texts of strangers are shown, not executed; output that cannot be
written is dropped, and training goes on."""

import errno
import io
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from omnictl.visible_text import visible

_JSON_SAFE = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0xD800, 0xE000))}
"""What JSON may hold unescaped and a terminal would execute or refuse."""

_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO, errno.EBADF)


def json_safe(text: str) -> str:
    """JSON whose every character a terminal shows; it means the same."""
    return text.translate(_JSON_SAFE)


class SafeConsole(Console):
    """A console that shows control characters of whatever is printed, styles and movements of its own apart.

    Names of emoji stay as they are: `rows.csv:100: …` is a place in a file.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of something to print."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class _Lossy(io.RawIOBase):
    """A file descriptor that takes everything, and forgets what cannot be written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.lost: int | None = None
        """The system's number for why something was lost first."""

    def write(self, data: Any) -> int:
        view = memoryview(data)
        written = 0
        try:
            while written < len(view):
                written += os.write(self._descriptor, view[written:])
        except OSError as error:
            if error.errno not in _LOST:
                raise
            self.lost = self.lost or error.errno
        return len(view)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor


class Outputs:
    """Standard output and standard error that end no training when they are full or closed."""

    def __init__(self) -> None:
        self._raw = {name: _Lossy(number) for number, name in enumerate(("stdout", "stderr"), start=1)}
        for name, raw in self._raw.items():
            before: TextIO | None = getattr(sys, name)
            if before is None:  # it is closed: what is printed goes nowhere
                continue
            before.flush()
            setattr(sys, name, _text(raw, before))

    @property
    def lost(self) -> int | None:
        """The system's number for why something on standard output was lost; None if nothing was."""
        sys.stdout.flush()
        return self._raw["stdout"].lost


def _text(raw: _Lossy, like: TextIO) -> io.TextIOWrapper:
    at_once = getattr(like, "write_through", False)  # PYTHONUNBUFFERED
    buffer: Any = raw if at_once else io.BufferedWriter(raw)
    by_line = getattr(like, "line_buffering", False)
    return io.TextIOWrapper(
        buffer, encoding=like.encoding, errors="backslashreplace", line_buffering=by_line, write_through=at_once
    )
