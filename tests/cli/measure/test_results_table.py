"""Tables of evaluations: whatever metrics are called, whatever they are."""

import json
import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from omnictl.cli.measure.eval import _table
from omnictl.cli.measure.results_table import overview
from omnictl.measure.evaluate import Evaluation
from omnictl.metrics.intervals import rate_of
from omnictl.metrics.verdict import Verdict
from omnictl.pipeline.evaluate import EvaluationResults
from omnictl.runs.run import Run
from omnictl.trainer.stage import Report

STRANGE = ("count [easy]", "[/x]", "[red]y[/]")


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    run = Run(tmp_path / "asr" / "a")
    run.path.mkdir(parents=True)
    (run.path / "run.json").write_text(json.dumps({"stage": "asr", "status": "finished"}))
    headline, *others = STRANGE
    report = Report(
        headline,
        "lower",
        {headline: 0.5, **dict.fromkeys(others, math.inf)},
        3,
        controls={f"{name} control": 0.25 for name in STRANGE},
        estimates={headline: rate_of(1, 2).against(f"{headline} control", rate_of(1, 4), "lower")},
        verdict=Verdict("weak", "why [/b]"),
        groups={f"{name} group": {headline: math.inf} for name in STRANGE},
    )
    return Evaluation(run, "test", report, run.evaluations / "test" / "predictions.jsonl", None, is_whole_split=True)


def shown(*texts: object) -> str:
    console = Console(file=StringIO(), width=300)
    console.print(*texts)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_one_evaluation(evaluation: Evaluation) -> None:
    lines = [" ".join(line.split()) for line in shown(_table(evaluation)).splitlines()]
    assert "count [easy] 0.5000 0.0945 to 0.9055, n 2, does not beat count [easy] control" in lines
    for name in STRANGE[1:]:
        assert f"{name} –" in lines
    for name in STRANGE:
        assert f"{name} control 0.2500" in lines
        assert f"{name} group count [easy] –" in lines


def test_several_stages(evaluation: Evaluation) -> None:
    text = shown(*overview(EvaluationResults([evaluation], [])))
    for name in STRANGE:
        assert name in text
    assert "[/x] " in text
    assert "–" in text
