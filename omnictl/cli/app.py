"""The `omnictl` command and how it ends: named errors become one screen (or one JSON object) and an exit code."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from omnictl import __version__
from omnictl.cli.console import Output, show_error
from omnictl.cli.measure.bench import bench
from omnictl.cli.measure.eval import evaluate
from omnictl.cli.runs.app import app as runs_app
from omnictl.cli.setup.config import app as config_app
from omnictl.cli.setup.data import app as data_app
from omnictl.cli.setup.doctor import doctor
from omnictl.cli.setup.init import init
from omnictl.cli.terminal import Outputs
from omnictl.cli.train.command import training_command
from omnictl.cli.train.pipeline import pipeline
from omnictl.cli.train.plan import plan
from omnictl.cli.train.sft import sft
from omnictl.cli.train.talker import talker
from omnictl.cli.train.watch import watch
from omnictl.cli.use.chat import chat
from omnictl.cli.use.classify import classify
from omnictl.cli.use.export import export
from omnictl.cli.use.push import push
from omnictl.cli.use.say import say
from omnictl.cli.use.serve import serve
from omnictl.cli.use.transcribe import transcribe
from omnictl.errors import DiskFull, OmniError, RunError, UsageError
from omnictl.processes import end, number_of_processes
from omnictl.stages import STAGES, command_stages


class _Interrupted(OmniError):
    """Ctrl-C that ended a command at once."""

    kind = "interrupted"
    exit_code = 130


class _Commands(TyperGroup):
    """The commands; an interrupt, which typer turns into a bare exit code, is reported like any other end."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own context
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            fix = "run the command again; training that was under way goes on with --resume latest"
            raise _Interrupted("interrupted", fix=fix) from error


app = typer.Typer(
    name="omnictl",
    cls=_Commands,
    help="Train a whole small omni model, every weight from scratch, on one small GPU or a laptop.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"omnictl {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


_OWN: dict[str, Callable[..., int]] = {"talker": talker, "sft": sft}
"""The stages that take other models: their commands have options for these."""

for _name in command_stages():
    _command = _OWN.get(_name) or training_command(_name)
    app.command(_name, help=STAGES[_name].summary, rich_help_panel="Train")(_command)
app.command("pipeline", rich_help_panel="Train")(pipeline)
app.command("plan", rich_help_panel="Train")(plan)
app.command("watch", rich_help_panel="Train")(watch)
app.command("bench", rich_help_panel="Measure")(bench)
app.command("eval", rich_help_panel="Measure")(evaluate)
app.command("chat", rich_help_panel="Use")(chat)
app.command("transcribe", rich_help_panel="Use")(transcribe)
app.command("classify", rich_help_panel="Use")(classify)
app.command("say", rich_help_panel="Use")(say)
app.command("serve", rich_help_panel="Use")(serve)
app.command("export", rich_help_panel="Use")(export)
app.command("push", rich_help_panel="Use")(push)
app.command("init", rich_help_panel="Set up")(init)
app.command("doctor", rich_help_panel="Set up")(doctor)
app.add_typer(runs_app, name="runs", rich_help_panel="Measure")
app.add_typer(config_app, name="config", rich_help_panel="Set up")
app.add_typer(data_app, name="data", rich_help_panel="Set up")


def main() -> NoReturn:
    """Run the command line and exit; a signal or a full disk behind the terminal ends it in order."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    alone = number_of_processes() == 1  # else whoever started them ends them, and one may wait for the others
    signal.signal(signal.SIGINT, _end_in_order if alone else signal.default_int_handler)
    if alone:
        signal.signal(signal.SIGTERM, _end_in_order)
    outputs = Outputs()
    code = run(sys.argv[1:])
    if outputs.lost in (errno.ENOSPC, errno.EDQUOT):
        code = code or _fail(_LOST_OUTPUT, sys.argv[1:])
    end(code)


_LOST_OUTPUT = DiskFull(
    "no space left where standard output goes: part of what was to be printed is lost, and nothing else",
    where="standard output",
    fix="free some space, or send the output elsewhere",
)


def _end_in_order(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by way of everything that is to be put in order; training, which has more to do, listens itself.

    An import that is broken off can fail in any way, so that the process ends at once in the middle of one.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@cache
def _commands() -> Callable[..., Any]:
    """All commands with their options, built once a process: that takes longer than to refuse most arguments."""
    return get_command(app)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    Output(as_json="--json" in arguments).show_log(logging.WARNING)
    try:
        code = _commands()(arguments, prog_name="omnictl", standalone_mode=False)
    except OmniError as error:
        return _fail(error, arguments)
    except typer.TyperException as error:
        return _fail(_usage_error(error), arguments)
    except (KeyboardInterrupt, typer.Abort):  # while the arguments were read
        return _fail(_Interrupted("interrupted", fix="run the command again"), arguments)
    except OSError as error:
        named = _system_error(error)
        if named is None:
            raise
        return _fail(named, arguments)
    return code if isinstance(code, int) else 0


def _system_error(error: OSError) -> OmniError | None:
    """What the system refused, where it is nothing but a name or a place that a user gave."""
    place = str(error.filename or "")
    if error.errno == errno.ENAMETOOLONG:
        short = f"{place[:40]}…{place[-20:]}"
        return UsageError(f"the name {short} is too long for this system", where=short, fix="use names of at most 255 bytes")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and place:
        return RunError(f"{place}: {error.strerror}", where=place, fix="make it accessible to this user, or choose another place")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left while writing {place or 'a file'}", where=place or None, fix="free some space")
    return None


def _fail(error: OmniError, arguments: list[str]) -> int:
    show_error(error, Output(as_json="--json" in arguments))
    return error.exit_code


def _usage_error(error: typer.TyperException) -> UsageError:
    """An unknown option, a missing argument, …: the parser's words, and the help of the command it was in."""
    context: typer.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else "omnictl"
    return UsageError(error.format_message(), fix=f"see the options with `{command} --help`")
