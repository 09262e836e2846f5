"""Stage B: what it trains on, what it takes over from another run, and what its report says."""

import csv
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnictl.config import resolve
from omnictl.data.cache import cache_dir
from omnictl.data.speech.batches.utterances import SpeechBatch, evaluation_batches
from omnictl.data.speech.corpus import Samples
from omnictl.data.speech.examples import infeasible
from omnictl.errors import CheckpointError, ConfigError, DataError
from omnictl.evaluation.asr import RecognitionResult
from omnictl.generate.ctc_search import greedy
from omnictl.models.audio_encoder import Encoded
from omnictl.nn.losses.ctc import BLANK, ctc_nats
from omnictl.runs.run import Run, create_run
from omnictl.stages import asr
from omnictl.stages.asr import PRESETS, Asr, AsrConfig
from omnictl.stages.protocol import StageContext
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, UNSEEN_VOICES
from omnictl.trainer.checkpoint import load_weights, plain_state_dict, save_tensors
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise

FP32 = Precision("fp32", "")
RATE = 16_000
Randomise = Callable[[nn.Module], None]


def config_of(*overrides: str) -> AsrConfig:
    return resolve(AsrConfig, preset=PRESETS["debug"], overrides=overrides)


def stage_of(*overrides: str, init: Run | None = None) -> Asr:
    return Asr.create(config_of(*overrides), context=StageContext(cache_dir(), init))


def hiss(seconds: float, seed: int = 0) -> Samples:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE), dtype=np.float32)


def write_corpus(folder: Path, texts: Sequence[str], *, seconds: float = 1.0, **columns: Sequence[str]) -> Path:
    """Rows of a manifest, each with a hiss of its own; an audio file that is there already is left alone."""
    names = [f"{number}.wav" for number in range(len(texts))]
    table: Mapping[str, Sequence[str]] = {"audio": names, "text": texts, **columns}
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(table), *zip(*table.values(), strict=True)])
    for seed, name in enumerate(names):
        if not (folder / name).exists():
            soundfile.write(folder / name, hiss(seconds, seed), RATE)
    return folder


def on_files(folder: Path, *overrides: str, init: Run | None = None) -> Asr:
    return stage_of(f"data.source={json.dumps(str(folder))}", *overrides, init=init)


def run_of(stage: Asr, folder: Path) -> Run:
    """A run that this stage's model is the best of."""
    run = create_run(folder, "asr", "giver", {})
    stage.save_description(run.model)
    save_tensors(plain_state_dict(stage.model), run.model / "model.safetensors")
    return run


# What is trained on


TEXTS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SPLITS = ["train"] * 10 + ["val", "test"]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten rows to train on, of which three are broken and one is too short, and one of each other split."""
    (tmp_path / "2.wav").write_text("this is no sound")
    soundfile.write(tmp_path / "4.wav", hiss(0.1), RATE)
    write_corpus(tmp_path, [*TEXTS[:7], "βα", *TEXTS[8:]], split=SPLITS)
    (tmp_path / "3.wav").unlink()
    return tmp_path


def test_too_much_broken_data_is_refused_with_its_rows(mixed: Path) -> None:
    with pytest.raises(DataError) as caught:
        on_files(mixed, "model.emissions=1", "data.max_broken=0.3")
    first, *rows = caught.value.message.splitlines()
    assert first == "4 of 10 rows cannot be trained on, allowed are 30%:"
    index = f"{mixed}/metadata.csv"
    assert rows[0].startswith(f"{index}:5: ")  # known before anything is decoded
    assert "3.wav" in rows[0]
    assert rows[1].startswith(f"{index}:4: {mixed}/2.wav is not a WAV, FLAC, OGG or MP3 file")
    assert rows[2:] == [
        f"{index}:9: the transcript has characters outside the alphabet: αβ",
        f"{index}:6: too short for its transcript: 3 steps at 25 Hz, CTC needs 4",
    ]
    assert caught.value.where == str(mixed)
    assert caught.value.fix == (
        f"see all of them with `omnictl data check {mixed}`; mend or remove them, or --set data.max_broken=1"
    )


def test_what_is_broken_and_allowed_is_left_out_and_recorded(mixed: Path) -> None:
    stage = on_files(mixed, "model.emissions=1", "data.max_broken=0.4")
    assert [row.text for row in stage.data.training_set.recordings] == ["one", "two", "six", "seven", "nine", "ten"]
    assert [row.id for row in stage.data.quarantine] == ["3.wav", "2.wav", "7.wav", "4.wav"]
    batches = stage.batches()
    assert stage.loss(batches.collate(batches.ids(0))).sum.isfinite()


def test_broken_rows_of_the_validation_split_are_recorded_too(tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_text("this is no sound")
    write_corpus(tmp_path, TEXTS[:5], split=["train", "val", "val", "train", "test"])
    stage = on_files(tmp_path)
    assert [row.id for row in stage.data.quarantine] == ["1.wav"]
    assert stage.validate().num_examples == 1


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    write_corpus(tmp_path, ["?"] * 9 + ["one", "two"], split=["train"] * 10 + ["val"])
    with pytest.raises(
        DataError, match=r"^9 of 10 rows cannot be trained on, allowed are 5%:(\n.* has no words){5}\n… and 4 more$"
    ):
        on_files(tmp_path)


def test_nothing_to_train_on_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    write_corpus(tmp_path, ["?", "!", "one"], split=["train", "train", "val"])
    with pytest.raises(DataError, match="2 of 2 rows cannot be trained on"):
        on_files(tmp_path, "data.max_broken=1")


@pytest.mark.parametrize("split", ["val", "test"])
def test_nothing_to_judge_by_is_refused(split: str, tmp_path: Path) -> None:
    others = {"val": "test", "test": "val"}
    write_corpus(tmp_path, ["one", "?", "two"], split=["train", split, others[split]])
    stage = on_files(tmp_path)
    with pytest.raises(DataError, match=f"^nothing in the {split} split of {tmp_path} can be used:\n") as caught:
        stage.validate() if split == "val" else stage.evaluate("test", limit=None)
    assert caught.value.message.endswith(f"\n{tmp_path}/metadata.csv:3: the transcript '?' has no words")
    assert caught.value.where == str(tmp_path)


def test_utterances_too_short_to_be_scored_are_still_heard(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1.wav", hiss(0.1), RATE)
    stage = on_files(write_corpus(tmp_path, ["one", "seventeen", "two"], split=["train", "val", "test"]), "model.emissions=1")
    report = stage.validate()
    assert report.metrics["wer"] >= 1
    assert "loss" not in report.metrics


# How often it may emit


SLOW, FAST = ["ah"], ["hello there"]


def corpus_of(folder: Path, *, num_fast: int, num_slow: int, seconds: float) -> Path:
    """Half a second is 13 steps at 25 Hz: too few for "hello there"."""
    texts = FAST * num_fast + SLOW * num_slow
    return write_corpus(folder, [*texts, "ah", "ah"], seconds=seconds, split=["train"] * len(texts) + ["val", "test"])


def test_the_head_emits_at_50_hertz_where_25_would_not_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "omnictl"):
        stage = on_files(corpus_of(tmp_path, num_fast=2, num_slow=3, seconds=0.4))
    assert caplog.messages == ["2 utterances are too short for their transcripts at 25 Hz: the CTC head emits at 50 Hz"]
    assert stage.config.model.emissions == 2
    assert stage.model.head.out_features == 2 * stage.targets.num_symbols
    assert stage.data.quarantine == ()
    assert len(stage.data.training_set) == 5


@pytest.mark.parametrize(("num_fast", "seconds"), [(3, 1.0), (1, 0.1)], ids=["25 will do", "50 would not either"])
def test_the_head_emits_at_25_hertz_otherwise(
    num_fast: int, seconds: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "omnictl"):
        stage = on_files(corpus_of(tmp_path, num_fast=num_fast, num_slow=3, seconds=seconds), "data.max_broken=1")
    assert caplog.messages == []
    assert stage.config.model.emissions == 1


def test_one_in_a_thousand_may_be_too_short_for_25_hertz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = corpus_of(tmp_path, num_fast=1, num_slow=9, seconds=0.4)
    monkeypatch.setattr(asr, "SPARE_SHARE", 0.1)
    stage = on_files(folder, "data.max_broken=0.1")
    assert stage.config.model.emissions == 1
    assert len(stage.data.quarantine) == 1
    monkeypatch.setattr(asr, "SPARE_SHARE", 0.09)
    assert on_files(folder).config.model.emissions == 2


def test_what_is_chosen_is_kept(tmp_path: Path) -> None:
    folder = corpus_of(tmp_path, num_fast=2, num_slow=3, seconds=0.4)
    with pytest.raises(DataError, match="2 of 5 rows cannot be trained on"):
        on_files(folder, "model.emissions=1")
    assert on_files(folder, "model.emissions=2").config.model.emissions == 2


def test_the_fastest_speed_decides_how_often(tmp_path: Path) -> None:
    folder = corpus_of(tmp_path, num_fast=2, num_slow=3, seconds=0.55)
    assert on_files(folder).config.model.emissions == 1
    assert on_files(folder, "data.speeds=[1.0, 1.3]").config.model.emissions == 2


@torch.no_grad()
def test_what_is_called_too_short_has_no_path() -> None:
    """The count of `infeasible` against CTC itself, at every length around the limit."""
    stage = stage_of("model.emissions=2")
    stage.model.eval()
    target = stage.targets.encode("hello")
    lengths = list(range(1, 30))
    batch = SpeechBatch(
        features=torch.randn(len(lengths), max(lengths), 80),
        lengths=torch.tensor(lengths),
        targets=torch.tensor([target] * len(lengths)),
        target_lengths=torch.tensor([len(target)] * len(lengths)),
    )
    logits = stage.encode(batch)
    nats = ctc_nats(logits.frames, logits.lengths, batch.targets, batch.target_lengths)
    fits = [2 * math.ceil(length / 4) >= 6 for length in lengths]
    assert nats.isfinite().tolist() == fits


# Gradients


def gradient(stage: Asr, micro_batch: int) -> Tensor:
    """Of the mean loss of a whole batch, all parameters in one vector."""
    stage.model.zero_grad(set_to_none=True)
    stage.model.train()
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    made = map(batches.collate, micro_batches(batches.ids(2), micro_batch))
    sums = accumulate(stage, made, precision=FP32, scaler=scaler)
    normalise(list(stage.model.parameters()), sums.count, clip_norm=math.inf)
    return torch.cat([p.grad.flatten() for p in stage.model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["fp32", "fp64"])
def test_any_split_of_a_batch_gives_the_same_gradient(dtype: torch.dtype, tolerance: float, randomise: Randomise) -> None:
    stage = stage_of("data.speeds=[1.0, 1.1]")
    randomise(stage.model)
    stage.model.to(dtype)
    whole = gradient(stage, micro_batch=8)
    for micro_batch in (1, 3):
        assert (gradient(stage, micro_batch) - whole).norm() <= tolerance * whole.norm(), micro_batch


def test_work_counts_seconds_of_sound() -> None:
    stage = stage_of()
    batches = stage.batches()
    batch = batches.collate(batches.ids(0))
    work = stage.work(batch)
    assert work.units == pytest.approx(int(batch.lengths.sum()) / 100)
    assert work.positions == int(batch.lengths.sum()) < work.slots == batch.features.shape[0] * batch.features.shape[1]


# Statistics, and the weights of another run


def test_the_features_statistics_are_part_of_a_fresh_model() -> None:
    stage = stage_of()
    frames = np.concatenate([stage.data.training_set.features(index) for index in range(len(stage.data.training_set))])
    np.testing.assert_allclose(stage.model.mean, frames.mean(0), atol=1e-3)
    np.testing.assert_allclose(stage.model.std, frames.std(0), atol=2e-3)


def test_weights_are_taken_from_another_run_but_not_its_statistics(tmp_path: Path, randomise: Randomise) -> None:
    giver = stage_of()
    randomise(giver.model)
    giver.model.mean.fill_(-7)
    (tmp_path / "data").mkdir()
    folder = write_corpus(tmp_path / "data", TEXTS, split=SPLITS)
    own, taker = on_files(folder), on_files(folder, init=run_of(giver, tmp_path))
    for name, tensor in taker.model.state_dict().items():
        expected = own.model if name in ("mean", "std") else giver.model
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert not torch.equal(taker.model.mean, giver.model.mean)


@torch.no_grad()
def test_a_doubled_head_reads_the_same(tmp_path: Path, randomise: Randomise) -> None:
    giver = stage_of("model.emissions=1")
    randomise(giver.model)
    taker = stage_of("model.emissions=2", "train.seed=5", init=run_of(giver, tmp_path))
    batches = giver.batches()
    batch = batches.collate(batches.ids(0))
    once, twice = (stage.encode(batch) for stage in (giver, taker) if stage.model.eval())
    assert torch.equal(twice.lengths, 2 * once.lengths)
    torch.testing.assert_close(twice.frames, once.frames.repeat_interleave(2, 1))
    texts = [greedy(*each) for each in (once, twice)]
    assert texts[0] == texts[1]
    assert min(map(len, texts[0])) > 3  # random weights babble


def test_a_run_that_emits_twice_hands_that_on(tmp_path: Path) -> None:
    giver = run_of(stage_of("model.emissions=2"), tmp_path)
    assert stage_of(init=giver).config.model.emissions == 2
    with pytest.raises(CheckpointError, match=r"head\.bias: found 58, expected 29"):
        stage_of("model.emissions=1", init=giver)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    giver = run_of(stage_of(), tmp_path)
    with pytest.raises(CheckpointError, match="belong to another model"):
        stage_of("model.width=48", init=giver)


BPE = ("targets.kind=bpe", "targets.vocab_size=300")


def test_other_targets_than_those_of_the_weights_are_refused(tmp_path: Path) -> None:
    characters, pieces = (run_of(stage_of(*overrides), tmp_path) for overrides in ((), BPE))
    with pytest.raises(ConfigError) as caught:
        stage_of(*BPE, init=characters)
    assert caught.value.message == f"the weights of {characters.path} spell characters, the config asks for bpe"
    assert caught.value.where == "targets"
    assert "--set targets.kind=characters" in caught.value.fix
    with pytest.raises(ConfigError) as caught:
        stage_of(*BPE[:1], "targets.vocab_size=280", init=pieces)
    assert caught.value.message == f"the weights of {pieces.path} spell bpe, the config asks for bpe (300 against 280 pieces)"
    assert caught.value.fix == "--set targets.kind=bpe --set targets.vocab_size=300, or start without --init"


def test_characters_have_no_number_of_pieces_to_differ_in(tmp_path: Path) -> None:
    giver = run_of(stage_of(), tmp_path)
    assert stage_of("targets.vocab_size=300", init=giver).targets.num_symbols == 29


def test_pieces_go_with_the_weights(tmp_path: Path) -> None:
    giver = stage_of(*BPE)
    (tmp_path / "data").mkdir()
    taker = on_files(write_corpus(tmp_path / "data", TEXTS, split=SPLITS), *BPE, init=run_of(giver, tmp_path))
    text = giver.data.training_set.texts[0]
    assert taker.targets.encode(text) == giver.targets.encode(text)


def test_a_model_folder_opens_on_other_data(tmp_path: Path, randomise: Randomise) -> None:
    stage = stage_of(*BPE, "data.num_eval_utterances=4")
    randomise(stage.model)
    run = run_of(stage, tmp_path)
    opened = Asr.open(run.model, data="tinyworld:7", cache=cache_dir())
    load_weights(run.model / "model.safetensors", opened.model)
    assert opened.targets.encode("the cat") == stage.targets.encode("the cat")
    assert opened.speakers == stage.speakers
    here, there = stage.evaluate("val", limit=None), opened.evaluate("val", limit=None)
    assert [row["reference"] for row in here.predictions] != [row["reference"] for row in there.predictions]
    assert torch.equal(opened.model.mean, stage.model.mean)  # the weights', not those of the new data


# What it hears


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
    monkeypatch.setattr(Asr, "encode", lambda self, batch: spelled(batch))


@pytest.mark.usefixtures("knows_everything")
def test_a_perfect_model_makes_no_errors_but_where_sounds_are_shuffled() -> None:
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
    monkeypatch.setattr(Asr, "encode", lambda self, batch: spelled(batch, lambda row: True))
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
        return asr.TranscriptionResult(list(map(RecognitionResult, found.recordings, found.texts, texts)), 1.0, 1)

    monkeypatch.setattr(Asr, "_transcribe", transcribe)


@pytest.mark.parametrize(("speakers", "wer", "wer_unseen"), [(UNSEEN_VOICES, 0, 1), (KNOWN_VOICES, 1, 0)])
def test_voices_heard_in_training_and_others_are_told_apart(
    speakers: Sequence[str], wer: float, wer_unseen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf_to(monkeypatch, speakers)
    report = stage_of("data.num_utterances=400").evaluate("test", limit=None)
    assert report.metrics["wer"] == wer
    assert report.metrics["wer_unseen_voices"] == wer_unseen


def test_where_all_voices_are_known_there_is_one_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf_to(monkeypatch, [])
    assert "wer_unseen_voices" not in stage_of("data.num_utterances=400").evaluate("val", limit=None).metrics


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
    sounds = list(stage.data.corpus.sounds("val", 0, RATE))
    for indices, batch in evaluation_batches(found, 1):
        (index,) = indices
        sound = sounds[index]
        assert not isinstance(sound, DataError)
        heard = stage.hear(sound)
        logits = stage.encode(batch)
        assert torch.equal(heard.lengths, logits.lengths)
        torch.testing.assert_close(heard.frames.exp(), logits.frames.softmax(-1), atol=0.02, rtol=0)


# Recordings of people


def test_spoken_digits_can_be_trained_on(test_data: Path) -> None:
    stage = stage_of(f"data.source={json.dumps(str(test_data / 'fsdd'))}", 'data.holdout_speakers=["theo"]')
    assert {row.message.partition(":")[0] for row in stage.data.quarantine} <= {"too short for its transcript"}
    assert len(stage.data.training_set) > 2_000
    assert stage.speakers == {"george", "jackson", "lucas", "nicolas", "yweweler"}
    model = stage.config.model
    assert model.emissions != "auto"
    assert infeasible(stage.data.training_set, model.emissions, model.mel) == {}
    batches = stage.batches()
    for step in range(3):
        assert stage.loss(batches.collate(batches.ids(step))).sum.isfinite()
    assert {row.speaker for row in stage.data.corpus.recordings("test")} == {"theo"}
