"""The evaluation of a Talker, with a judge whose mistakes are known."""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from stage_factory import make_stage

from omnictl.data.speech.corpus import Samples
from omnictl.evaluation.talker import RUNGS, Sentence, TalkerEvaluator
from omnictl.metrics import intelligibility
from omnictl.stages.talker import TalkerStage


class Dictated:
    """A judge that hears what it is told, whatever the audio; it notes how long recordings were."""

    rate = 8_000

    def __init__(self, texts: Iterator[str]) -> None:
        self.texts = texts
        self.lengths: list[int] = []

    def read(self, audio: Samples) -> str:
        self.lengths.append(len(audio))
        return next(self.texts)


@pytest.fixture(scope="module")
def stage() -> TalkerStage:
    made: TalkerStage = make_stage("talker")
    return made


def told(stage: TalkerStage, answers: dict[str, list[str]], untrained: str = "") -> Iterator[str]:
    """The answers by rung, sentence by sentence, then those of the control that has learned nothing."""
    for sentence in range(4):
        for rung in RUNGS:
            yield answers[rung][sentence]
    for _ in range(4):
        yield untrained


@pytest.mark.slow
def test_errors_are_counted_rung_by_rung(stage: TalkerStage) -> None:
    texts = [text.rstrip(".?!").replace(",", "") for text in stage.data.split("test").texts]
    wrong = [text.replace(text[0], "x" if text[0] != "x" else "y", 1) for text in texts]
    answers = {"original": texts, "resynthesis": texts, "teacher_forced": wrong, "free_running": ["", *texts[1:]]}
    report = stage.evaluate("test", limit=None, judge=Dictated(told(stage, answers)))
    letters = sum(map(len, texts))
    assert report.headline == "cer_free_running"
    assert report.value == pytest.approx(len(texts[0]) / letters)
    assert report.metrics["cer_original"] == report.metrics["cer_resynthesis"] == 0
    assert report.metrics["cer_teacher_forced"] == pytest.approx(4 / letters)
    assert report.metrics["wer_teacher_forced"] == pytest.approx(4 / sum(len(text.split()) for text in texts))
    assert report.controls["cer_untrained"] == 1
    assert 0.5 < report.controls["cer_shuffled_text_floor"] <= report.controls["cer_shuffled_text"]
    assert [row["prediction"] for row in report.predictions] == ["", *texts[1:]]
    assert [row["reference"] for row in report.predictions] == texts
    assert 0 < report.metrics["codebook_perplexity_min_ratio"] <= 1
    assert report.metrics["mel_mse"] > 0


@pytest.mark.slow
def test_a_talker_that_says_the_same_whatever_the_text_is_found_out(stage: TalkerStage) -> None:
    texts = [text.rstrip(".?!").replace(",", "") for text in stage.data.split("test").texts]
    judge = Dictated(told(stage, {rung: [texts[0]] * 4 for rung in RUNGS}))
    report = stage.evaluate("test", limit=None, judge=judge)
    assert report.controls["cer_shuffled_text"] == pytest.approx(report.value)


@pytest.mark.slow
def test_a_report_can_be_heard_and_seen(stage: TalkerStage) -> None:
    report = stage.evaluate("test", limit=2, judge=Dictated(iter(["a"] * 100)))
    assert report.num_examples == 2
    assert set(report.audio) == {f"test-{number}_{rung}.wav" for number in range(2) for rung in RUNGS}
    for name, content in report.audio.items():
        audio, rate = soundfile.read(io.BytesIO(content))
        assert rate == 16_000, name
        assert len(audio) > 0
    for content in report.images.values():
        assert np.asarray(Image.open(io.BytesIO(content))).std() > 1


def test_the_judge_hears_at_its_own_rate(stage: TalkerStage) -> None:
    judge = Dictated(iter(["a"] * 4))
    voice = stage.voice()
    codes = torch.from_numpy(stage.code_split("test").codes[0]).long()
    original = np.zeros(16_000, np.float32)
    said = TalkerEvaluator(voice, judge, 0).evaluate(Sentence("hello.", original, codes, codes, 0))
    assert judge.lengths[0] == 8_000
    assert judge.lengths == [-(-len(said.audio[rung]) // 2) for rung in RUNGS]
    assert np.array_equal(said.audio["resynthesis"], said.audio["teacher_forced"])
    assert 0 < said.first_seconds <= said.seconds


def test_the_recorded_codes_are_guessed_each_after_the_ones_before(stage: TalkerStage) -> None:
    coded = stage.code_split("test")
    plain = stage.guess(coded, 0)
    assert plain.shape == coded.codes[0].shape
    changed = coded.codes[0].copy()
    changed[:, -1] = (changed[:, -1] + 1) % stage.layout.codes  # no guess comes after these
    others = stage.guess(replace(coded, codes=[changed, *coded.codes[1:]]), 0)
    assert torch.equal(others[:, :-1], plain[:, :-1])


@pytest.mark.slow
def test_measures_are_taken_if_installed(stage: TalkerStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(original: Samples, made: Samples) -> float:
        assert len(original) == len(made)
        return 0.5

    monkeypatch.setattr(intelligibility, "installed_measures", lambda: ("stoi",))
    monkeypatch.setattr(intelligibility, "_stoi", half)
    judge = Dictated(iter(["a"] * 100))
    assert stage.evaluate("test", limit=1, judge=judge).metrics["stoi_resynthesis"] == 0.5
    monkeypatch.setattr(intelligibility, "installed_measures", tuple)
    assert not any(name.startswith(("stoi", "pesq")) for name in stage.evaluate("test", limit=1, judge=judge).metrics)
