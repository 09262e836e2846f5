"""`omnictl runs show`: one run, in full."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_run
from omnictl.cli.console import Output, printable
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.cli.runs.list import STATUS_COLOURS, coloured, score_text
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.runs.run import Run

RunArgument = Annotated[
    str,
    typer.Argument(
        help="STAGE/FOLDER, a path, a name, a stage for its newest run, or latest.", autocompletion=complete_run, show_default=False
    ),
]

FACTS = ("created", "command", "device", "optimizer", "processes", "error")
"""Of a run's record."""


def show(run: RunArgument, runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Show a run: how it stands, what it learned, how fast it was, what it is made from, what it takes on the disk."""
    from omnictl.report.run_files import evaluations, figures_of_training
    from omnictl.runs.catalogue import children, disk_bytes, find_any_run, parents_of, read_catalogue, summarise

    found = find_any_run(run_root(runs), run)
    summary, record = summarise(found), found.record()
    made = children(read_catalogue(found.root).runs).get(found.path.absolute(), [])
    training = figures_of_training(found)
    judged = {evaluation.folder.name: evaluation.report for evaluation in evaluations(found)}
    value = {
        **summary.as_json(),
        "record": record,
        "training": training,
        "evaluations": judged,
        "parents": {name: str(parent.path) for name, parent in parents_of(found).items()},
        "children": [str(child.path) for child in made],
        "bytes": disk_bytes(found),
        "model": str(found.model),
        "page": str(found.page) if found.page.is_file() else None,
    }
    lines = [f"[bold]{escape(summary.place)}[/bold]  {coloured(summary.status, STATUS_COLOURS)}"]
    facts = {name: str(record[name]) for name in FACTS if name in record}
    facts |= {"steps": f"{summary.steps:,}"} if summary.steps is not None else {}
    facts |= {"score": score_text(summary.score)} if summary.score is not None else {}
    facts |= {name: _figure(figure) for name, figure in training.items()}
    facts |= {f"eval {name}": _evaluation(report) for name, report in judged.items()}
    facts |= {f"from {name}": place(parent) for name, parent in parents_of(found).items()}
    facts |= {"made from it": ", ".join(map(place, made))} if made else {}
    facts |= {"disk": f"{disk_bytes(found) / 1e6:,.1f} MB", "model": printable(found.model)}
    facts |= {"page": printable(found.page)} if found.page.is_file() else {}
    lines += [f"  {name:<18} {escape(fact)}" for name, fact in facts.items()]
    Output(as_json=as_json).result(value, "\n".join(lines))


def place(run: "Run") -> str:
    """How commands name a run."""
    return f"{run.stage}/{run.path.name}"


def _figure(figure: object) -> str:
    return f"{figure:,.4g}" if isinstance(figure, float) else "–" if figure is None else str(figure)


def _evaluation(report: Any) -> str:
    headline = report["headline"]
    verdict = f": {report['verdict']['word']}" if "verdict" in report else ""
    return f"{headline['name']} {_figure(headline['value'])} of {report['num_examples']} examples{verdict}"
