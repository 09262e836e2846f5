"""What an evaluation of a recogniser reports."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_asr import RATE, SPLITS, TEXTS, Randomise, on_files, stage_of, write_corpus

from omnictl.data.speech.batches.utterances import SpeechBatch, evaluation_batches
from omnictl.errors import DataError
from omnictl.evaluation.asr import RecognitionResult
from omnictl.models.audio_encoder import Encoded
from omnictl.nn.losses.ctc import BLANK
from omnictl.stages import asr
from omnictl.stages.asr import Asr
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, UNSEEN_VOICES

ALL_VOICES = "data.num_utterances=128"
"""Of which each known voice says at least one."""


def spelled(batch: SpeechBatch, wrong: Callable[[int], bool] = lambda row: False) -> Encoded:
    """Scores of a model that knows the transcripts, or hears nothing in the rows that are `wrong`."""
    longest = 2 * batch.targets.shape[1] + 1
    symbols = torch.full((len(batch.targets), longest), BLANK)
    for row, (target, length) in enumerate(zip(batch.targets, batch.target_lengths.tolist(), strict=True)):
        if not wrong(row):
            symbols[row, 1 : 2 * length : 2] = target[:length]
    return Encoded(20.0 * F.one_hot(symbols, 29), 2 * batch.target_lengths + 1)


@pytest.fixture
def knows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asr, "encode", lambda self, batch, in_chunks=False: spelled(batch))


@pytest.mark.slow
@pytest.mark.usefixtures("knows_everything")
def test_a_perfect_model_makes_no_errors_but_where_recordings_are_shuffled() -> None:
    report = stage_of("data.num_eval_utterances=60").evaluate("test", limit=None)
    assert (report.headline, report.better, report.num_examples) == ("wer", "lower", 60)
    assert report.value == report.metrics["cer"] == report.metrics["wer_unseen_voices"] == 0
    assert report.metrics["wer_raw"] > 0.1  # of capitals and full stops
    assert report.metrics["loss"] < 1e-3
    assert report.metrics["set_aside"] == 0
    assert report.metrics["real_time_factor"] >= 0
    assert report.controls["wer_shuffled"] == report.controls["wer_shuffled_floor"] > 0.7
    assert {group["wer"] for group in report.groups.values()} == {0}
    assert sum(group["utterances"] for group in report.groups.values()) == 60
    assert set(report.groups) & set(UNSEEN_VOICES)
    assert set(report.groups) <= {*KNOWN_VOICES, *UNSEEN_VOICES}


def test_a_deaf_model_misses_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asr, "encode", lambda self, batch, in_chunks=False: spelled(batch, lambda row: True))
    report = stage_of().evaluate("test", limit=None)
    assert [report.metrics[name] for name in ("wer", "cer", "wer_raw", "wer_unseen_voices")] == [1] * 4
    assert report.controls["wer_shuffled"] == 1
    assert report.metrics["loss"] > 1
    assert {prediction["prediction"] for prediction in report.predictions} == {""}


@pytest.mark.usefixtures("knows_everything")
def test_a_beam_is_judged_beside_the_best_path() -> None:
    metrics = stage_of("decoding.beam=4").evaluate("test", limit=4).metrics
    assert metrics["wer"] == metrics["wer_best_path"] == 0
    assert "wer_best_path" not in stage_of().evaluate("test", limit=4).metrics


def deaf_to(monkeypatch: pytest.MonkeyPatch, speakers: Sequence[str]) -> None:
    """A model that makes no errors but with these speakers."""

    def transcribe(stage: Asr, found: Any, decoding: object) -> asr.TranscriptionResult:
        texts = ["" if row.speaker in speakers else text for row, text in zip(found.recordings, found.texts, strict=True)]
        return asr.TranscriptionResult(list(map(RecognitionResult, found.recordings, found.texts, texts)))

    monkeypatch.setattr(Asr, "_transcribe", transcribe)


@pytest.mark.slow
@pytest.mark.parametrize(("speakers", "wer", "wer_unseen"), [(UNSEEN_VOICES, 0, 1), (KNOWN_VOICES, 1, 0)])
def test_voices_heard_in_training_and_others_are_told_apart(
    speakers: Sequence[str], wer: float, wer_unseen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf_to(monkeypatch, speakers)
    report = stage_of(ALL_VOICES).evaluate("test", limit=None)
    assert report.metrics["wer"] == wer
    assert report.metrics["wer_unseen_voices"] == wer_unseen


def test_where_all_voices_are_known_there_is_one_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf_to(monkeypatch, [])
    assert "wer_unseen_voices" not in stage_of(ALL_VOICES).evaluate("val", limit=None).metrics


def test_a_speaker_held_out_is_heard_in_the_test_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path, TEXTS, speaker=["ann", "theo"] * 6)
    stage = on_files(tmp_path, 'data.holdout_speakers=["theo"]')
    assert stage.speakers == {"ann"}
    assert [{row.speaker for row in stage.data.corpus.recordings(split)} for split in ("train", "val", "test")] == [
        {"ann"}, {"ann"}, {"theo"},
    ]  # fmt: skip
    deaf_to(monkeypatch, ["theo"])
    report = stage.evaluate("test", limit=None)
    assert report.num_examples == 6
    assert report.metrics["wer"] == report.metrics["wer_unseen_voices"] == 1
    assert report.groups == {"theo": {"utterances": 6, "wer": 1.0, "cer": 1.0, "wer_raw": 1.0}}


def test_unknown_speakers_are_no_group(tmp_path: Path) -> None:
    report = on_files(write_corpus(tmp_path, TEXTS, split=SPLITS)).evaluate("test", limit=None)
    assert report.groups == {}
    assert "wer_unseen_voices" not in report.metrics
    assert "speaker" not in report.predictions[0]


def test_predictions_can_be_read_and_heard_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path, [*TEXTS[:10], "eleven", "Number Twelve."], split=SPLITS, speaker=["ann"] * 12)
    stage = on_files(tmp_path)
    deaf_to(monkeypatch, ["ann"])
    (prediction,) = stage.evaluate("test", limit=None).predictions
    assert prediction == {
        "id": "11.wav",
        "task": "transcribe",
        "reference": "Number Twelve.",
        "prediction": "",
        "wer": 1.0,
        "speaker": "ann",
        "audio": str(tmp_path / "11.wav"),
    }
    json.dumps(prediction, allow_nan=False)


@pytest.mark.usefixtures("knows_everything")
def test_a_limit_takes_the_first_utterances() -> None:
    stage = stage_of()
    report = stage.evaluate("test", limit=3)
    assert [prediction["id"] for prediction in report.predictions] == ["test/0", "test/1", "test/2"]
    assert "audio" not in report.predictions[0]
    assert report.num_examples == 3
    assert stage.evaluate("test", limit=99).num_examples == 8


def test_the_worst_are_shown_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of()
    rows = stage.data.corpus.recordings("test")
    worst = str(rows[5].speaker)
    deaf_to(monkeypatch, [worst])
    text = stage.evaluate("test", limit=None).texts["worst.txt"]
    titles = [line for line in text.splitlines() if "  WER " in line]
    first = text.split("\n\n")[0]
    number = next(n for n, row in enumerate(rows) if row.speaker == worst)
    assert first.startswith(f"test/{number}  {worst}  WER 1.00\nREF: ")
    assert "D" in first.splitlines()[-1]
    assert len(titles) == 8
    assert titles[-1].endswith("WER 0.00")


def test_how_many_are_heard_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch, randomise: Randomise) -> None:
    stage = stage_of()
    randomise(stage.model)
    reports = []
    for frames in (1, 500, 24_000):
        monkeypatch.setattr(asr, "EVALUATION_FRAMES", frames)
        reports.append(stage.validate())
    for report in reports[1:]:
        assert report.metrics == pytest.approx(dict(reports[0].metrics), rel=1e-4)


@torch.no_grad()
def test_a_recording_is_heard_as_in_the_split(randomise: Randomise) -> None:
    """Up to the half precision of stored features."""
    stage = stage_of()
    randomise(stage.model)
    stage.model.eval()
    found = stage.data.split("val")
    recordings = list(stage.data.corpus.samples("val", 0, RATE))
    for indices, batch in evaluation_batches(found, 1):
        (index,) = indices
        audio = recordings[index]
        assert not isinstance(audio, DataError)
        heard = stage.hear(audio)
        logits = stage.encode(batch)
        assert torch.equal(heard.lengths, logits.lengths)
        torch.testing.assert_close(heard.frames.exp(), logits.frames.softmax(-1), atol=0.02, rtol=0)
