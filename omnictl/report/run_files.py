"""What a run holds that is worth a look: its log and its evaluations."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.report.curves import Point
from omnictl.runs.files import read_json
from omnictl.runs.run import Run
from omnictl.stages import STAGES, StageEntry


class History(NamedTuple):
    """The curves of a training."""

    loss: list[Point]
    headline: str | None
    """The metric that decides which weights are the best, as validation names it."""
    values: list[Point]
    best: Point | None


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation that lies in a run's `eval` folder."""

    folder: Path
    report: Mapping[str, Any]

    @property
    def run(self) -> Run:
        """The run that was evaluated."""
        return Run(self.folder.parent.parent)

    def predictions(self, most: int) -> list[dict[str, object]]:
        """The first predictions."""
        return list(islice(_lines(self.folder / "predictions.jsonl"), most))

    def files(self, suffix: str) -> list[Path]:
        """Files of a kind, such as images, audio or texts, by name."""
        return sorted(self.folder.glob(f"*{suffix}"))


def read_evaluation(folder: Path) -> StoredEvaluation:
    """The evaluation in a folder.

    Raises:
        RunError: there is none.
    """
    return StoredEvaluation(folder, read_json(folder / "report.json"))


def evaluations(run: Run) -> list[StoredEvaluation]:
    """The evaluations of a run, the newest first."""
    files = run.evaluations.glob("*/report.json")
    newest_first = sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.parent.name), reverse=True)
    return [read_evaluation(file.parent) for file in newest_first]


def history(run: Run) -> History:
    """The curves of a run; empty before its first step."""
    lines = list(_lines(run.metrics_file))
    loss = [Point(line["step"], line["loss"]) for line in lines if line["split"] == "train" and "loss" in line]
    validated = [line for line in lines if line["split"] == "val"]
    if not validated:
        return History(loss, None, [], None)
    headline = next(name for name in validated[0] if name not in ("step", "split"))
    values = [Point(line["step"], line[headline]) for line in validated]
    return History(loss, headline, values, _best(run, values))


def key_figures(report: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics and the controls to show beside the headline."""
    metrics = {name: value for name, value in report["metrics"].items() if name != report["headline"]["name"]}
    entry = STAGES.get(report["stage"], StageEntry("", ""))
    return dict(islice(metrics.items(), entry.table_metrics)), dict(islice(report["controls"].items(), entry.table_controls))


def _best(run: Run, values: list[Point]) -> Point | None:
    file = run.path / "best.json"
    step = read_json(file)["step"] if file.is_file() else None
    return next((point for point in values if point.step == step), None)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, without a last line that is still being written; none if there is no file."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
