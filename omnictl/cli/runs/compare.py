"""`omnictl runs compare`: what differs between runs, and what came of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_run
from omnictl.cli.console import Output, printable
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.errors import UsageError
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

PAGE = "comparison.html"
"""In the folder of all runs, unless `--out` says otherwise."""


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="STAGE/FOLDER, a path or a name; two or more.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help=f"The page; default: {PAGE} among the runs.", show_default=False)] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs of one stage: settings that differ, metrics with intervals, and a page with their curves in one chart."""
    from omnictl.report.comparison import compare_runs, write_comparison
    from omnictl.runs.catalogue import find_any_run

    root = run_root(runs)
    found = list(dict.fromkeys(find_any_run(root, name) for name in names))
    if len(found) < 2:
        raise UsageError("one run alone cannot be compared", where="RUN", fix="name two or more; `omnictl runs list` shows all")
    stages = {run.stage for run in found}
    if len(stages) > 1:
        raise UsageError(
            f"runs of several stages cannot be compared: {', '.join(sorted(stages))}", where="RUN", fix="name runs of one stage"
        )
    comparison = compare_runs(found)
    page = write_comparison(comparison, out or root / PAGE)
    labels = comparison.labels
    tables = [
        _table("settings that differ", labels, comparison.setting_rows()) if comparison.settings else "the settings are the same",
        _table("metrics", labels, comparison.metric_rows()),
    ]
    Output(as_json=as_json).result(comparison.as_json() | {"page": printable(page)}, *tables, f"page: {escape(printable(page))}")


def _table(title: str, labels: "Sequence[str]", rows: "Sequence[Sequence[Any]]") -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for label in labels:
        table.add_column(escape(label), overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table
