"""Judging a run: its model on a split, with the report and every prediction kept in the run's `eval` folder."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from omnictl.config.split import Split
from omnictl.evaluation.talker import Judge
from omnictl.measure.changed_data import log_changed_data
from omnictl.metrics.intervals import WANTED_HALF_WIDTH, finite
from omnictl.runs.files import write_bytes, write_json, write_text, writing
from omnictl.runs.run import Run
from omnictl.stages import STAGES, stage_type
from omnictl.stages.protocol import open_trained
from omnictl.trainer.stage import Report

NAME_LENGTH = 40
"""Characters of the name of other data that an evaluation's folder keeps; the last ones say most."""


class NamedJudge(NamedTuple):
    """A recogniser that listens to what speaks."""

    name: str
    judge: Judge
    label: str = ""
    """Distinguishes its reports from those of the default judge."""


@dataclass(frozen=True)
class Evaluation:
    """A report, where its predictions lie, and who judged."""

    run: Run
    split: Split
    report: Report
    predictions: Path
    judge: str | None
    is_whole_split: bool
    """Whether there are no more examples to judge."""
    data: str | None = None
    """Other data than the run's own, as it was named."""

    @property
    def is_narrow(self) -> bool:
        """Whether enough examples were judged for the headline to be exact."""
        return self.report.estimates[self.report.headline].is_narrow

    @property
    def wanted_examples(self) -> int | None:
        """About how many that takes, if one can tell."""
        return self.report.estimates[self.report.headline].wanted_count

    @property
    def shortfall(self) -> str | None:
        """One line if the number of examples is too small for a narrow interval, else None."""
        if self.is_narrow:
            return None
        name, number = self.report.headline, self.report.num_examples
        estimate = self.report.estimates[name]
        wanted = f"± {WANTED_HALF_WIDTH:g}" if estimate.unit == "share" else f"± {WANTED_HALF_WIDTH:.0%} of it"
        takes = "" if self.wanted_examples is None else f", {wanted} takes about {self.wanted_examples}"
        why = f"the {self.split} split has no more" if self.is_whole_split else "no more were judged"
        return f"{name} {estimate.as_text} is of only {number} examples{takes}: {why}"

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        report = self.report
        assert report.verdict is not None, "every evaluation has one"
        groups = {name: _finite(metrics) for name, metrics in report.groups.items()}
        return {
            "stage": self.run.stage,
            "run": str(self.run.path),
            "verdict": report.verdict.as_json(),
            "split": self.split,
            **({"data": self.data} if self.data else {}),
            "num_examples": report.num_examples,
            "headline": {"name": report.headline, "value": finite(report.value), "better": report.better},
            "metrics": _finite(report.metrics),
            "controls": _finite(report.controls),
            "estimates": {name: estimate.as_json() for name, estimate in report.estimates.items()},
            "shortfall": self.shortfall,
            "predictions": str(self.predictions),
            **({"judge": self.judge} if self.judge else {}),
            **({"groups": groups} if groups else {}),
        }


def evaluate_run(
    run: Run,
    *,
    judge: NamedJudge | None = None,
    data: str | None,
    split: Split,
    limit: int | None,
    device: torch.device,
    cache: Path,
) -> Evaluation:
    """Judge a run's best model in fp32.

    Args:
        run: the run; its stage decides the metrics.
        judge: who listens to it, if its stage has a use for one.
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
    if data is None:
        log_changed_data(run, stage)
    assert judge is not None or STAGES[run.stage].judge != "needed", "what speaks is judged by what hears"
    report = stage.evaluate(split, limit=limit, judge=None if judge is None else judge.judge)
    parts = [split, *([_name_data(data)] if data else []), *([judge.label] if judge and judge.label else [])]
    folder = run.evaluations / "_".join(parts)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    whole = limit is None or report.num_examples < limit
    evaluation = Evaluation(run, split, report, folder / "predictions.jsonl", judge.name if judge else None, whole, data)
    lines = (json.dumps(_finite(prediction), ensure_ascii=False) + "\n" for prediction in report.predictions)
    write_text(evaluation.predictions, "".join(lines))
    for name, text in report.texts.items():
        write_text(folder / name, text)
    for name, image in report.images.items():
        write_bytes(folder / name, image)
    for name, audio in report.audio.items():
        write_bytes(folder / name, audio)
    write_json(folder / "report.json", evaluation.as_json())
    return evaluation


def _name_data(data: str) -> str:
    """A part of a file's name for a data source: its end in letters and digits of any script, and a hash of all of it."""
    readable = re.sub(r"(?:[^\w.]|_)+", "-", data)[-NAME_LENGTH:].strip("-.")
    return f"{readable}-{hashlib.blake2b(os.fsencode(data), digest_size=4).hexdigest()}".lstrip("-")


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Figures, or a prediction, as JSON can hold them."""
    return {name: finite(value) if isinstance(value, float) else value for name, value in values.items()}
