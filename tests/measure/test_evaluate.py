"""What an evaluation leaves behind, of stages that are made up."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from omnictl.data.speech.corpus import Recording
from omnictl.evaluation.asr import RecognitionResult, error_rates, estimates_by_voices, recognition_report
from omnictl.measure import evaluate
from omnictl.measure.evaluate import Evaluation, evaluate_run
from omnictl.report import write_report
from omnictl.report.run_files import read_evaluation
from omnictl.runs.catalogue import summarise
from omnictl.runs.run import Run
from omnictl.trainer.stage import Report

Judge = Callable[..., Evaluation]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Judges a run of `asr` whose stage gives this report."""
    run = Run(tmp_path / "asr" / "2026-11-22_14-00-00_tiny")
    run.path.mkdir(parents=True)
    (run.path / "run.json").write_text(json.dumps({"stage": "asr", "status": "finished", "parents": {}}))
    run.config_file.write_text("{}")
    monkeypatch.setattr(evaluate, "log_changed_data", lambda *_: None)

    def judge(report: Report, data: str | None = None) -> Evaluation:
        monkeypatch.setattr(evaluate, "open_trained", lambda *_, **__: SimpleNamespace(evaluate=lambda *_, **__: report))
        return evaluate_run(run, data=data, split="test", limit=None, device=torch.device("cpu"), cache=tmp_path)

    return judge


def recognised(*said_heard_speaker: tuple[str, str, str]) -> Report:
    results = [
        RecognitionResult(Recording(str(number), said, speaker, "here", None), said.lower(), heard)
        for number, (said, heard, speaker) in enumerate(said_heard_speaker)
    ]
    return recognition_report(results, error_rates(results), estimates_by_voices(results, {"ann"}))


def test_an_utterance_of_which_the_normaliser_leaves_nothing_ends_no_evaluation(judge: Judge) -> None:
    evaluation = judge(recognised(*[("Two cats.", "two cats", "ann")] * 5, ("Hmm.", "ham", "bob")))
    assert evaluation.report.groups["bob"]["wer"] == math.inf
    stored = read_evaluation(evaluation.predictions.parent)
    assert stored.report["groups"]["bob"]["wer"] is None
    assert [row["wer"] for row in stored.predictions(6)] == [*[0.0] * 5, None]
    assert "Infinity" not in evaluation.predictions.read_text()
    assert "–" in write_report(evaluation.run).read_text()


def test_a_headline_that_is_not_known_is_none(judge: Judge) -> None:
    evaluation = judge(recognised(("Hmm.", "ham", "ann"), ("Uh.", "a", "ann")))
    assert evaluation.as_json()["headline"] == {"name": "wer", "value": None, "better": "lower"}
    assert "–" in write_report(evaluation.run).read_text()
    assert summarise(evaluation.run).score is None


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        ("tinyworld:7", "test_tinyworld-7-"),
        ("/data/дети", "test_data-дети-"),
        ("/data/子供", "test_data-子供-"),
        ("/", "test_"),
        ("../my_data/" + "x" * 300, "test_" + "x" * 40 + "-"),
    ],
)
def test_other_data_has_a_folder_of_its_own(judge: Judge, data: str, begins: str) -> None:
    report = recognised(("Two cats.", "two cats", "ann"))
    folders = [judge(report, one).predictions.parent for one in (None, data, f"{data}!", f"{data}?")]
    names = [folder.name for folder in folders]
    assert names[0] == "test"
    assert len(set(names)) == 4
    assert names[1].startswith(begins)
    assert len(names[1]) == len(begins) + 8
    stored = [read_evaluation(folder).data for folder in folders]
    assert stored == [None, data, f"{data}!", f"{data}?"]
    assert f"1 examples of the test split of {data}" in write_report(Run(folders[0].parent.parent)).read_text()
