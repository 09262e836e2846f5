"""Several runs of one stage side by side: settings that differ, metrics with intervals, curves laid over one another."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.report.curves import chart
from omnictl.report.html import UNKNOWN, Html, element, number, page, table
from omnictl.report.run_files import History, StoredEvaluation, evaluations, figures_of_training, history
from omnictl.runs.files import read_json, write_text, writing
from omnictl.runs.run import Run

"""Stands for a setting or a metric that a run does not have."""

NOT_COMPARABLE = "not evaluated on the same data by the same judge"


class Metric(NamedTuple):
    """A metric of a run, with its interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    num_examples: int | None = None

    @property
    def as_text(self) -> str:
        """For tables."""
        interval = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g}, n {self.num_examples})"
        return f"{self.value:.4g}{interval}"


class Comparison(NamedTuple):
    """Runs side by side; every list is in their order."""

    runs: list[Run]
    settings: dict[str, list[Any]]
    """By key the values that are not the same everywhere; None where a run has no such setting."""
    evaluation: str | None
    """The evaluation whose metrics are compared: of the same split and data; None if they have none in common."""
    metrics: dict[str, list[Metric | None]]
    training: dict[str, list[Any]]
    """Steps, speed and memory."""
    histories: list[History]

    @property
    def labels(self) -> list[str]:
        """How tables and curves name the runs: by their names, if these are different."""
        names = [str(run.record().get("name", run.path.name)) for run in self.runs]
        return names if len(set(names)) == len(names) else [run.path.name for run in self.runs]

    def setting_rows(self) -> list[list[str]]:
        """A row for each setting."""
        return [[key, *(UNKNOWN if value is None else _plain(value) for value in values)] for key, values in self.settings.items()]

    def metric_rows(self) -> list[list[str]]:
        """A row for each metric, then one for each figure of the training."""
        judged = [[name, *(UNKNOWN if one is None else one.as_text for one in values)] for name, values in self.metrics.items()]
        trained = [[name, *(UNKNOWN if one is None else number(one) for one in values)] for name, values in self.training.items()]
        return [*judged, *trained]

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        metrics = {name: [None if one is None else one._asdict() for one in values] for name, values in self.metrics.items()}
        return {
            "runs": [str(run.path) for run in self.runs],
            "settings": self.settings,
            "evaluation": self.evaluation,
            "metrics": metrics,
            "training": self.training,
        }


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Lay runs of one stage side by side.

    Raises:
        RunError: a file of theirs cannot be read.
    """
    evaluation, metrics = _compare_metrics(runs)
    figures = [figures_of_training(run) for run in runs]
    names = dict.fromkeys(name for one in figures for name in one)
    training = {name: [one.get(name) for one in figures] for name in names}
    return Comparison(list(runs), _compare_settings(runs), evaluation, metrics, training, [history(run) for run in runs])


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page; returns where it is.

    Raises:
        RunError: its folder cannot be written.
        DiskFull: no space left.
    """
    labels = comparison.labels
    stage = comparison.runs[0].stage
    judged = f"metrics of {comparison.evaluation}" if comparison.evaluation else f"metrics: {NOT_COMPARABLE}"
    content = [
        element("h1", f"{stage} · {', '.join(labels)}"),
        element("div", *_curves(comparison, labels), class_="curves"),
        element("h2", judged),
        table(["", *labels], comparison.metric_rows()),
        element("h2", "settings that differ"),
        table(["", *labels], comparison.setting_rows()) if comparison.settings else element("p", "none", class_="about"),
        element("h2", "runs"),
        table(["", "path"], [[label, str(run.path)] for label, run in zip(labels, comparison.runs, strict=True)]),
    ]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(f"{stage}: {', '.join(labels)}", *content))
    return path


def _curves(comparison: Comparison, labels: Sequence[str]) -> list[Html]:
    histories = dict(zip(labels, comparison.histories, strict=True))
    headline = next((one.headline for one in histories.values() if one.headline is not None), "")
    return [
        chart("training loss", {label: one.loss for label, one in histories.items()}),
        chart(f"validation {headline}", {label: one.values for label, one in histories.items()}),
        chart("learning rate", {label: one.series("lr") for label, one in histories.items()}),
        chart("gradient norm", {label: one.series("grad_norm") for label, one in histories.items()}),
        chart("seconds a step", {label: one.series("seconds") for label, one in histories.items()}),
    ]


def _compare_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    configs = [_flatten(read_json(run.config_file)) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    compared = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in compared.items() if any(value != values[0] for value in values)}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys; lists are values."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    below = f"{prefix}." if prefix else ""
    return {key: each for name, part in value.items() for key, each in _flatten(part, below + name).items()}


def _compare_metrics(runs: Sequence[Run]) -> tuple[str | None, dict[str, list[Metric | None]]]:
    """The metrics of the newest evaluation that all of the runs have, of the same examples and by the same judge."""
    judged = [{_examples_of(run, one): one for one in evaluations(run)} for run in runs]
    shared = [key for key in judged[0] if all(key in one for one in judged)]
    if not shared:
        return None, {}
    reports = [one[shared[0]] for one in judged]
    names = dict.fromkeys(name for report in reports for name in report.report["metrics"])
    return shared[0].folder, {name: [_metric(report, name) for report in reports] for name in names}


class _Examples(NamedTuple):
    """What was judged, by whom."""

    folder: str
    source: str | None
    """The run's own data, if it is of that."""
    judge: str | None
    """Name of the run that listened."""


def _examples_of(run: Run, judged: StoredEvaluation) -> _Examples:
    own = read_json(run.config_file).get("data", {}).get("source") if judged.data is None else None
    judge = judged.report.get("judge")
    return _Examples(judged.folder.name, own, judge and Path(judge).name)


def _metric(judged: StoredEvaluation, name: str) -> Metric | None:
    value = judged.report["metrics"].get(name)
    if value is None:
        return None
    estimate = judged.report.get("estimates", {}).get(name, {})
    return Metric(value, estimate.get("low"), estimate.get("high"), estimate.get("n"))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
