"""Runs made by hand, a few small files each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnictl.runs.run import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of all runs."""
    return tmp_path / "runs"


@pytest.fixture
def make_run(root: Path) -> MakeRun:
    """Makes a run of a stage at a minute, with what its record, its validations and its evaluation say."""

    def make(
        stage: str = "asr",
        minute: int = 0,
        *,
        name: str = "tiny",
        validated: dict[int, float] | None = None,
        judged: dict[str, Any] | None = None,
        source: str = "tinyworld",
        **record: object,
    ) -> Run:
        created = f"2026-11-22_14-{minute:02}-00"
        run = Run(root / stage / f"{created}_{name}")
        run.path.mkdir(parents=True)
        known = {"stage": stage, "name": name, "status": "finished", "created": created, "parents": {}, "steps": 10}
        (run.path / "run.json").write_text(json.dumps(known | record))
        run.config_file.write_text(json.dumps({"data": {"source": source}, "train": {"lr": 0.01}}))
        if validated:
            lines = [{"step": step, "split": "val", "wer": value} for step, value in validated.items()]
            run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
            best = min(validated, key=lambda step: validated[step])
            (run.path / "best.json").write_text(json.dumps({"step": best, "wer": validated[best]}))
        if judged:
            (run.evaluations / "test").mkdir(parents=True)
            (run.evaluations / "test" / "report.json").write_text(json.dumps(judged))
        return run

    return make
