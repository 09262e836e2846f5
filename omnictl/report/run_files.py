"""What a run holds that is worth a look: its log and its evaluations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from omnictl.report.curves import Point
from omnictl.runs.files import read_json
from omnictl.runs.log_file import read_lines
from omnictl.runs.run import Run
from omnictl.stages import STAGES, StageEntry


class History(NamedTuple):
    """The curves of a training."""

    loss: list[Point]
    headline: str | None
    """The metric that decides which weights are the best, as validation names it."""
    values: list[Point]
    best: Point | None
    logged: Mapping[str, list[Point]]
    """Every other figure of the steps by its name: `lr`, `grad_norm`, `seconds`, `memory_bytes`, …"""

    def series(self, name: str) -> list[Point]:
        """A figure of the steps; empty if it was not logged."""
        return self.logged.get(name, [])

    @property
    def throughput(self) -> str | None:
        """The name of the figure that says how much a second was trained on, such as `tokens_per_second`."""
        return next((name for name in self.logged if name.endswith("_per_second")), None)


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
        return list(islice(read_lines(self.folder / "predictions.jsonl"), most))

    @property
    def num_predictions(self) -> int:
        """How many there are: of some stages fewer than examples."""
        return sum(1 for _ in read_lines(self.folder / "predictions.jsonl"))

    @property
    def data(self) -> str | None:
        """Other data than the run's own, if it is of such; of older versions' evaluations, a name made of it."""
        if "data" in self.report:
            return str(self.report["data"])
        _split, *further = self.folder.name.split("_")
        return next((part for part in further if part != self.report.get("judge")), None)

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
    lines = list(read_lines(run.metrics_file))
    trained = [line for line in lines if line.get("split") == "train"]
    logged = _series([*trained, *read_lines(run.timings_file)])
    validated = [line for line in lines if line.get("split") == "val"]
    headline = next((name for line in validated[:1] for name in line if name not in ("step", "split")), None)
    values = [] if headline is None else [Point(line["step"], line[headline]) for line in validated if headline in line]
    return History(logged.pop("loss", []), headline, values, _best(run, values), logged)


def figures_of_training(run: Run) -> dict[str, Any]:
    """What a training came to in a few figures: steps, best validation, speed, memory; empty before its first step."""
    past = history(run)
    figures: dict[str, Any] = {}
    if past.best is not None:
        figures[f"validation {past.headline}"] = past.best.value
        figures["best step"] = past.best.step
    if past.loss:
        figures["trained steps"] = past.loss[-1].step
        figures["training loss"] = past.loss[-1].value
    if (seconds := past.series("seconds")) and past.throughput is not None:
        figures["seconds a step"] = median(point.value for point in seconds)
        figures[past.throughput.replace("_", " ")] = median(point.value for point in past.series(past.throughput))
    if memory := past.series("memory_bytes"):
        figures["memory MiB"] = max(point.value for point in memory) / 2**20
    return figures


def _series(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """The figures of logged steps by name."""
    series: dict[str, list[Point]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in ("step", "split"):
                series.setdefault(name, []).append(Point(line["step"], value))
    return series


def key_figures(report: Mapping[str, Any]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """The metrics and the controls to show beside the headline."""
    metrics = {name: value for name, value in report["metrics"].items() if name != report["headline"]["name"]}
    entry = STAGES.get(report["stage"], StageEntry("", ""))
    return dict(islice(metrics.items(), entry.table_metrics)), dict(islice(report["controls"].items(), entry.table_controls))


def _best(run: Run, values: list[Point]) -> Point | None:
    file = run.path / "best.json"
    best = read_json(file) if file.is_file() else None
    step = best.get("step") if isinstance(best, dict) else None
    return next((point for point in values if point.step == step), None)
