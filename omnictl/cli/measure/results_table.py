"""The stages side by side: one table of what their evaluations found."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omnictl.measure.evaluate import Evaluation
    from omnictl.metrics.verdict import VerdictWord
    from omnictl.pipeline.evaluate import EvaluationResults

COLOURS: "Mapping[VerdictWord, str]" = {"learned": "green", "weak": "yellow", "not learned": "red"}
"""Of the verdicts."""


def overview(measured: "EvaluationResults") -> "Iterator[RenderableType]":
    """A line about what each stage has learned, a table with a row for each, and a text about each that is missing."""
    from omnictl.report.run_files import key_figures

    if measured.evaluations:
        yield "\n".join(verdict_line(evaluation) for evaluation in measured.evaluations)
        table = Table("stage", "verdict", "run", "headline", "further metrics", "controls", show_lines=True)
        for evaluation in measured.evaluations:
            report = evaluation.as_json()
            name = report["headline"]["name"]
            headline = escape(f"{name} {evaluation.report.estimates[name].as_text}")
            metrics, controls = key_figures(report)
            run = escape(evaluation.run.path.name)
            word = report["verdict"]["word"]
            table.add_row(report["stage"], f"[{COLOURS[word]}]{word}[/]", run, headline, _lines(metrics), _lines(controls))
        yield table
        yield from (escape(f"{one.run.stage}: {one.shortfall}") for one in measured.evaluations if one.shortfall)
    for missing in measured.missing:
        yield escape(f"{missing.stage} is missing: {missing.message}\n  {missing.fix}")


def verdict_line(evaluation: "Evaluation") -> str:
    """The stage, the word and the reason."""
    verdict = evaluation.report.verdict
    assert verdict is not None, "every evaluation has one"
    return f"[bold]{evaluation.run.stage}: [{COLOURS[verdict.word]}]{verdict.word}[/][/bold] — {escape(verdict.reason)}"


def figure(value: float | None, style: str = ".4f") -> str:
    """A value with four decimals, or as `style` says, a dash for what is not known or not finite."""
    return format(value, style) if value is not None and math.isfinite(value) else "–"


def _lines(values: Mapping[str, float | None]) -> str:
    width = max(map(len, values), default=0)
    return escape("\n".join(f"{name:<{width}} {figure(value)}" for name, value in values.items()))
