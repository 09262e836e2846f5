"""The stages side by side: one table of what their evaluations found."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from omnictl.pipeline.measuring import Measured


def overview(measured: "Measured") -> "Iterator[RenderableType]":
    """A table with a row for each stage, and a text about each that is missing."""
    from omnictl.report.reading import key_figures

    if measured.evaluations:
        table = Table("stage", "run", "headline", "further metrics", "controls", show_lines=True)
        for evaluation in measured.evaluations:
            report = evaluation.as_json()
            headline = {report["headline"]["name"]: report["headline"]["value"]}
            metrics, controls = key_figures(report)
            run = escape(evaluation.run.path.name)
            table.add_row(report["stage"], run, _lines(headline), _lines(metrics), _lines(controls))
        yield table
    for missing in measured.missing:
        yield escape(f"{missing.stage} is missing: {missing.message}\n  {missing.fix}")


def _lines(values: Mapping[str, float]) -> str:
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:<{width}} {value:.4f}" for name, value in values.items())
