"""`omnictl runs verify`: are the files of runs as they were written."""

from typing import Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output, error_fields, printable, show_error
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.errors import CheckpointError
from omnictl.runs.root import run_root


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs as for `show`; default: all.", show_default=False)
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check runs: checksums of checkpoints and models, whether records and logs can be read, whether parents are there.

    Exit code 4 if anything is damaged.
    """
    from omnictl.measure.verify import verify_run
    from omnictl.runs.catalogue import find_any_run, read_catalogue
    from omnictl.runs.run import Run

    output, root = Output(as_json=as_json), run_root(runs)
    catalogue = read_catalogue(root)
    chosen = [find_any_run(root, name) for name in names] if names else [*catalogue.runs, *map(Run, catalogue.damaged)]
    results, damaged = [], []
    for run in chosen:
        problems, notes, files = verify_run(run)
        place = f"{run.path.parent.name}/{run.path.name}"
        results.append({"run": printable(run.path), "problems": problems, "notes": notes, "files": files})
        damaged += [f"{place}: {problem}" for problem in problems]
        mark = "[red]damaged[/red]" if problems else "[green]whole[/green]  "
        output.say(f"{mark} {escape(place)}: {files} files")
        for line in (*problems, *notes):
            output.say(f"        {escape(line)}")
    error = None
    if damaged:
        fix = "copy the run anew from where it is whole; a damaged checkpoint is passed over by --resume"
        error = CheckpointError("\n".join(damaged), where=str(root), fix=fix)
    ending = {} if error is None else {"error": error_fields(error)}
    whole = sum(not result["problems"] for result in results)
    output.result({"runs": results, **ending}, f"{whole} of {len(results)} runs are whole")
    if error is None:
        return 0
    show_error(error, Output(as_json=False))
    return error.exit_code
