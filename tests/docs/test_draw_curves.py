"""Curves of runs as SVG files."""

import json
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from omnictl.runs.run import Run
from omnictl.stages import STAGES

DOCS = Path(__file__).parents[2] / "docs"
KEPT = sorted((DOCS / "curves").glob("*.svg"))


def test_loss_and_validation_are_drawn_one_below_the_other(tmp_path: Path) -> None:
    run = Run(tmp_path / "asr" / "a")
    run.path.mkdir(parents=True)
    lines = [{"step": 0, "split": "val", "wer": 1.0}]
    lines += [{"step": step, "split": "train", "loss": 4 / step} for step in range(1, 11)]
    lines.append({"step": 10, "split": "val", "wer": 0.01})
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run.path / "best.json").write_text('{"step": 10, "wer": 0.01}')
    drawn = runpy.run_path(str(DOCS / "draw_curves.py"))["draw"](run)
    texts = [element.text for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert "training loss" in texts
    assert "validation wer, logarithmic, best 0.01 at step 10" in texts


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_drawings_are_whole_and_ask_for_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert text.count("://") == 1  # its namespace
    assert f"curves/{path.name}" in (DOCS / "stages.md").read_text(encoding="utf-8")


def test_there_is_one_for_each_stage_that_the_pipeline_trains() -> None:
    assert {path.stem for path in KEPT} == set(STAGES) - {"vocoder"}
