"""What people and programs see: text on a terminal, plain lines elsewhere, one JSON object with `--json`."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.markup import escape

from omnictl.cli.terminal import SafeConsole, json_safe
from omnictl.errors import OmniError
from omnictl.processes import speaks
from omnictl.visible_text import is_unicode

MOST_LINES = 18
"""Lines of an error that are shown to people; programs get them all."""


TABLE_WIDTH = 150
"""Characters of a table that is not written to a terminal."""


@dataclass(frozen=True)
class Output:
    """Where a command writes. With `--json`, standard output carries the result alone and the rest goes to standard error."""

    as_json: bool
    quiet: bool = False
    silent: bool = field(default_factory=lambda: not speaks())
    """Of the processes that train together, one speaks."""

    @property
    def text_stream(self) -> TextIO:
        """The stream for everything that is not the result."""
        return sys.stderr if self.as_json else sys.stdout

    @property
    def console(self) -> Console:
        """A console on that stream."""
        return SafeConsole(file=self.text_stream, highlight=False, soft_wrap=True, quiet=self.silent)

    @property
    def wide_console(self) -> Console:
        """A console for tables, which have to know how wide it is; wide enough for them where nobody sees an edge."""
        console = SafeConsole(file=self.text_stream, highlight=False)
        return console if console.is_terminal else SafeConsole(file=self.text_stream, highlight=False, width=TABLE_WIDTH)

    def say(self, text: str) -> None:
        """A line for people; `[bold]…[/bold]` and the like are markup."""
        if not self.quiet:
            self.console.print(text)

    def show_log(self, level: int = logging.INFO) -> None:
        """From now on, say what the package logs: progress of work that takes a while, and warnings, which go to standard error."""
        logger = logging.getLogger("omnictl")
        logger.setLevel(level)
        logger.handlers = [_LogHandler(self)]

    def result(self, value: Mapping[str, object], *shown: RenderableType) -> None:
        """The result: `value` with `--json`, else texts and tables, one below the other."""
        if self.silent:
            return
        if self.as_json:
            print(json_safe(json.dumps(value, ensure_ascii=False)), flush=True)
            return
        for part in shown:
            if isinstance(part, str):
                self.console.print(part)
            else:
                self.wide_console.print(part)


class _LogHandler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            console = SafeConsole(file=sys.stderr, highlight=False, soft_wrap=True, quiet=self._output.silent)
            console.print(f"[bold]warning[/bold]: {escape(record.getMessage())}")
        else:
            self._output.say(escape(record.getMessage()))


def show_error(error: OmniError, output: Output) -> None:
    """One screen on standard error that says what was found, and the fix; with `--json` also one object as the result."""
    if output.as_json and not output.silent:
        print(json_safe(json.dumps({"error": error_fields(error)}, ensure_ascii=False)), flush=True)
    console = SafeConsole(file=sys.stderr, highlight=False, soft_wrap=True)
    place = f" [dim]({escape(error.where)})[/dim]" if error.where and error.where not in error.message else ""
    console.print(f"[bold red]error[/bold red]{place}: {escape(_one_screen(error.message))}")
    console.print(f"[bold]fix[/bold]: {escape(error.fix)}")


def error_fields(error: OmniError) -> dict[str, str | int | None]:
    """An error as programs get it, under `error` of a JSON object."""
    return {
        "kind": error.kind,
        "exit_code": error.exit_code,
        "where": None if error.where is None else printable(error.where),
        "message": printable(error.message),
        "fix": printable(error.fix),
    }


def show_file_error(error: OmniError) -> dict[str, str | int | None]:
    """Show the error of one file among several; returns its fields for that file's place in the result."""
    show_error(error, Output(as_json=False))  # the object on standard output is the result, with this in it
    fields = error_fields(error)
    del fields["exit_code"]  # it is the command's, and the same for all files
    return fields


def printable(text: Path | str) -> str:
    """A path, or a text with one in it, to print or to put into JSON, where a name in no encoding would be refused."""
    try:
        return os.fsencode(text).decode(errors="replace")
    except UnicodeEncodeError:  # half a character that is no byte of a name either
        return "".join(character if is_unicode(character) else "\ufffd" for character in str(text))


def _one_screen(message: str) -> str:
    lines = message.splitlines()
    more = [f"… and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join([*lines[:MOST_LINES], *more])


def figures(metrics: Mapping[str, float]) -> str:
    """Metrics in one line."""
    return "  ".join(f"{name} {_figure(value)}" for name, value in metrics.items())


def _figure(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"
