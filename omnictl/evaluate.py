"""Judging a run: its model on a split, with the report and every prediction kept in the run's `eval` folder."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from omnictl.runs.files import write_bytes, write_json, write_text, writing
from omnictl.runs.run import Run
from omnictl.stages import stage_type
from omnictl.stages.trained import open_trained
from omnictl.train.stage import Report, Split


@dataclass(frozen=True)
class Evaluation:
    """A report and where its predictions lie."""

    run: Run
    split: Split
    report: Report
    predictions: Path

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        report = self.report
        groups = {name: dict(metrics) for name, metrics in report.groups.items()}
        return {
            "stage": self.run.stage,
            "run": str(self.run.path),
            "split": self.split,
            "num_examples": report.num_examples,
            "headline": {"name": report.headline, "value": report.value, "better": report.better},
            "metrics": dict(report.metrics),
            "controls": dict(report.controls),
            "predictions": str(self.predictions),
            **({"groups": groups} if groups else {}),
        }


def evaluate_run(run: Run, *, data: str | None, split: Split, limit: int | None, device: torch.device, cache: Path) -> Evaluation:
    """Judge a run's best model in fp32.

    Args:
        run: the run; its stage decides the metrics.
        data: another data source than the one it was trained on.
        split: which split.
        limit: only so many examples.
        device: where to compute.
        cache: folder of token stores and the like.

    Raises:
        CheckpointError: the run has no whole model yet.
        DataError: the data cannot be read.
    """
    stage = open_trained(stage_type(run.stage), run, device=device, cache=cache, data=data)
    report = stage.evaluate(split, limit=limit)
    folder = run.evaluations / (split if data is None else f"{split}_{re.sub(r'[^A-Za-z0-9.]+', '-', data).strip('-')}")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(run, split, report, folder / "predictions.jsonl")
    lines = (json.dumps(dict(prediction), ensure_ascii=False) + "\n" for prediction in report.predictions)
    write_text(evaluation.predictions, "".join(lines))
    for name, text in report.texts.items():
        write_text(folder / name, text)
    for name, picture in report.pictures.items():
        write_bytes(folder / name, picture)
    write_json(folder / "report.json", evaluation.as_json())
    return evaluation
