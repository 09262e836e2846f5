"""Samples of each validation in a run's folder."""

import json
from pathlib import Path

import pytest

from omnictl.runs.run import Run, create_run
from omnictl.trainer.log import cut_after
from omnictl.trainer.samples import MOST_SAMPLES, keep_samples
from omnictl.trainer.stage import Report


def report(*predictions: dict[str, object], **more: dict[str, bytes]) -> Report:
    return Report("wer", "lower", {"wer": 1.0}, 3, predictions=predictions, **more)  # type: ignore[arg-type]


def lines(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in run.samples_file.read_text().splitlines()]


def test_samples_are_kept_by_step(tmp_path: Path) -> None:
    run = create_run(tmp_path, "asr", "x", {})
    for step in (0, 10):
        keep_samples(run, step, report({"reference": "yes", "prediction": f"at {step}"}))
    assert [line["step"] for line in lines(run)] == [0, 10]
    assert lines(run)[1]["samples"] == [{"reference": "yes", "prediction": "at 10"}]
    cut_after(run.samples_file, 0, pytest.fail)  # as a resume does
    assert [line["step"] for line in lines(run)] == [0]


def test_media_are_files_beside_them(tmp_path: Path) -> None:
    run = create_run(tmp_path, "asr", "x", {})
    for step in (0, 10):
        images, audio = {"0.png": b"first" if step == 0 else b"again"}, {"a.wav": str(step).encode()}
        keep_samples(run, step, report({"image": "0.png", "audio": "a.wav"}, images=images, audio=audio))
    assert (run.samples / "0.png").read_bytes() == b"first"  # it is the same image
    assert (run.samples / "step-00000000_a.wav").read_bytes() == b"0"
    assert lines(run)[1]["samples"] == [{"image": "0.png", "audio": "step-00000010_a.wav"}]
    assert (run.samples / "step-00000010_a.wav").read_bytes() == b"10"


def test_of_many_the_first_are_kept_and_of_none_nothing(tmp_path: Path) -> None:
    run = create_run(tmp_path, "asr", "x", {})
    keep_samples(run, 0, report())
    assert not run.samples_file.exists()
    keep_samples(run, 0, report(*({"prediction": str(number)} for number in range(50))))
    assert len(lines(run)[0]["samples"]) == MOST_SAMPLES  # type: ignore[arg-type]
