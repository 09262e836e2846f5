"""`omnictl watch`: a page about a training that is under way, which keeps itself up to date."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_run
from omnictl.cli.console import Output, printable
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.runs.run import Run

PORT = 8777

SECONDS_BETWEEN_LOOKS = 1.0
"""At whether the training has ended."""


def watch(
    run: Annotated[
        str,
        typer.Argument(
            help="STAGE/FOLDER, a path, a name, a stage, or latest: the newest run of all.",
            autocompletion=complete_run,
            show_default=True,
        ),
    ] = "latest",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any that is free.")] = PORT,
    every: Annotated[int, typer.Option(min=1, help="Seconds after which the page is made anew.")] = 5,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a training in a browser while it goes on: the run's page, made anew every few seconds.

    Only browsers of this machine can ask for it. It ends with the training, or
    by Ctrl-C; of a run that is not being trained, the page is written.
    """
    from omnictl.report import live_page
    from omnictl.report.live_server import serve_page
    from omnictl.runs.catalogue import find_any_run, is_trained_now

    output = Output(as_json=as_json)
    found = find_any_run(run_root(runs), run)
    if is_trained_now(found):
        with serve_page(lambda: live_page(found, every), port) as address:
            output.say(f"{escape(printable(found.path))} is shown at [bold]{address}[/bold] until it ends, or until Ctrl-C")
            try:
                while is_trained_now(found):
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            except KeyboardInterrupt:
                output.say("no longer shown; the training goes on")
    _conclude(found, output)


def _conclude(run: "Run", output: Output) -> None:
    """Write the page as it stands, but for a finished pipeline's, which has more on it."""
    from omnictl.report import write_report

    status = run.record()["status"]
    page = run.page if run.stage == "pipeline" and run.page.is_file() else write_report(run)
    output.result(
        {"run": printable(run.path), "status": status, "page": printable(page)},
        f"{escape(printable(run.path))} is {status}\npage: {escape(printable(page))}",
    )
