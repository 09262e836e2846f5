"""`omnictl runs`: find what was run, compare it, check it, and remove what nobody needs."""

from typing import Annotated

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_run
from omnictl.cli.console import Output
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.cli.runs.compare import compare
from omnictl.cli.runs.list import list_
from omnictl.cli.runs.remove import prune, rm
from omnictl.cli.runs.show import show
from omnictl.cli.runs.verify import verify
from omnictl.runs.root import run_root

app = typer.Typer(help="Find, compare, check and remove runs.", no_args_is_help=True)

app.command("list")(list_)
app.command("show")(show)
app.command("compare")(compare)
app.command("verify")(verify)
app.command("rm")(rm)
app.command("prune")(prune)


@app.command("path")
def path(
    run: Annotated[
        str,
        typer.Argument(
            help="STAGE/FOLDER, a name, a stage for its newest run, or latest.", autocompletion=complete_run, show_default=False
        ),
    ],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the absolute path of a run, for scripts: cp -r "$(omnictl runs path sft)/model" …"""
    from omnictl.cli.console import printable
    from omnictl.runs.catalogue import find_any_run

    found = printable(find_any_run(run_root(runs), run).path.absolute())
    Output(as_json=as_json).result({"path": found}, escape(found))
