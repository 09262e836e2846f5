"""Which files of a run are found to be damaged, and which are not."""

import json
from pathlib import Path

import pytest
from stage_factory import finished_run

from omnictl.measure.verify import verify_run
from omnictl.runs.files import write_json
from omnictl.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A whole run."""
    return finished_run(tmp_path, "pretrain")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0c"])
def test_only_a_line_feed_ends_a_line(run: Run, character: str) -> None:
    (run.evaluations / "test").mkdir(parents=True)
    predictions = run.evaluations / "test" / "predictions.jsonl"
    line = json.dumps({"prediction": f"one{character}two"}, ensure_ascii=False)
    predictions.write_text(f"{line}\n{line}\n", encoding="utf-8")
    assert verify_run(run).problems == []
    predictions.write_text(f"{line}\n{line[:-3]}\n", encoding="utf-8")
    (problem,) = verify_run(run).problems
    assert problem.startswith("eval/test/predictions.jsonl: line 2: ")


@pytest.mark.parametrize("name", ["best.json", "latest.json"])
def test_a_file_of_another_shape(run: Run, name: str) -> None:
    write_json(run.path / name, None)
    assert verify_run(run).problems == [f"{run.path / name} is not as omnictl writes it"]
