"""`omnictl runs list`: all runs in a table."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from omnictl.cli.console import Output, printable
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from omnictl.runs.catalogue import RunSummary, Score

STATUS_COLOURS = {"finished": "green", "running": "cyan", "interrupted": "yellow", "killed": "yellow", "failed": "red"}
VERDICT_COLOURS = {"learned": "green", "weak": "yellow", "not learned": "red"}


class SortKey(StrEnum):
    """What runs are sorted by."""

    created = "created"
    score = "score"
    steps = "steps"
    size = "size"
    stage = "stage"


class StatusName(StrEnum):
    """How a run stands."""

    running = "running"
    finished = "finished"
    interrupted = "interrupted"
    failed = "failed"
    killed = "killed"


def list_(
    stage: Annotated[list[str] | None, typer.Option(help="Only runs of this stage; repeatable.")] = None,
    status: Annotated[list[StatusName] | None, typer.Option(help="Only runs that stand so; repeatable.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only names like this, e.g. 'tiny*'.", show_default=False)
    ] = None,
    sort: Annotated[SortKey, typer.Option(help="Newest, best, longest or largest first, or by stage.")] = SortKey.created,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many.", show_default=False)] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first: how each stands, its score and its verdict."""
    from fnmatch import fnmatchcase

    from omnictl.runs.catalogue import read_catalogue, summarise_all

    root = run_root(runs)
    catalogue = read_catalogue(root)
    summaries, unreadable = summarise_all(catalogue.runs)
    wanted = [
        summary
        for summary in summaries
        if (not stage or summary.stage in stage)
        and (not status or summary.status in {each.value for each in status})
        and (name is None or fnmatchcase(summary.name, name) or fnmatchcase(summary.run.path.name, name))
    ]
    if sort is not SortKey.created:  # as they come
        wanted.sort(key=_sort_key(sort))
    shown = wanted[:limit]
    more = [f"{len(wanted) - len(shown)} more"] if len(wanted) > len(shown) else []
    paths = [printable(path) for path in (*catalogue.damaged, *(run.path for run in unreadable))]
    damaged = [f"cannot be read: {escape(path)}; `omnictl runs verify` says why" for path in paths]
    texts: list[str | Table] = [_table(shown)] if shown else [f"no such run in {escape(printable(root))}"]
    value = {"runs": [summary.as_json() for summary in shown], "damaged": paths}
    Output(as_json=as_json).result(value, *texts, *more, *damaged)


def _sort_key(sort: SortKey) -> "Callable[[RunSummary], Any]":
    """Of each run; the order of runs that are alike, newest first, stays."""
    from omnictl.runs.catalogue import disk_bytes

    keys: dict[SortKey, Callable[[RunSummary], Any]] = {
        SortKey.stage: lambda summary: summary.stage,
        SortKey.steps: lambda summary: -(summary.steps or 0),
        SortKey.size: lambda summary: -disk_bytes(summary.run),
        SortKey.score: lambda summary: (summary.stage, *_goodness(summary.score)),
    }
    return keys[sort]


def _goodness(score: "Score | None") -> tuple[int, str, float]:
    """Scores of one metric stand together, the best first, those without at the end."""
    if score is None:
        return (1, "", 0.0)
    return (0, f"{score.source} {score.name}", 0.0 if score.goodness is None else -score.goodness)


def _table(summaries: "list[RunSummary]") -> "Table":
    from rich.table import Table

    table = Table()
    for heading in ("run", "status", "steps", "score", "verdict", "data"):
        table.add_column(heading, justify="right" if heading == "steps" else "left", overflow="fold")
    for summary in summaries:
        table.add_row(
            escape(summary.place),
            coloured(summary.status, STATUS_COLOURS),
            "" if summary.steps is None else f"{summary.steps:,}",
            escape(score_text(summary.score)),
            coloured(summary.verdict or "", VERDICT_COLOURS),
            escape(printable(summary.data or "")),
        )
    return table


def coloured(word: str, colours: dict[str, str]) -> str:
    """A word as markup, in the colour that it has."""
    return f"[{colours[word]}]{word}[/{colours[word]}]" if word in colours else escape(word)


def score_text(score: "Score | None") -> str:
    """A score with its interval, and where it is from."""
    if score is None:
        return ""
    interval = "" if score.low is None or score.high is None else f" ({score.low:.4g} to {score.high:.4g})"
    return f"{score.name} {score.value:.4g}{interval}, {score.source}"
