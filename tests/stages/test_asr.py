"""Stage B: what it trains on, what it takes over from another run, and what its report says."""

import json
import logging
import math
from pathlib import Path

import pytest
import soundfile
import torch
from small_asr import RATE, SPLITS, TEXTS, Randomise, hiss, on_files, stage_of, write_corpus
from torch import Tensor

from omnictl.data.speech.batches.utterances import SpeechBatch
from omnictl.data.speech.examples import find_infeasible
from omnictl.errors import DataError
from omnictl.nn.losses.ctc import ctc_nats, ctc_sum
from omnictl.stages import asr
from omnictl.stages.asr import Asr
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise

FP32 = Precision("fp32", "")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten rows to train on, of which three are broken and one is too short, and one of each other split."""
    (tmp_path / "2.wav").write_text("this is no audio")
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
    assert rows[1].startswith(f"{index}:4: {mixed}/2.wav is not a WAV, FLAC, OGG, MP3, M4A or WebM file")
    assert rows[2:] == [
        f"{index}:9: the transcript has characters outside the alphabet: αβ (targets.kind=chars spells any)",
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
    (tmp_path / "1.wav").write_text("this is no audio")
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


def test_work_counts_seconds_of_audio() -> None:
    stage = stage_of()
    batches = stage.batches()
    batch = batches.collate(batches.ids(0))
    work = stage.work(batch)
    assert work.units == pytest.approx(int(batch.lengths.sum()) / 100)
    assert work.positions == int(batch.lengths.sum()) < work.slots == batch.features.shape[0] * batch.features.shape[1]


@pytest.mark.slow
def test_spoken_digits_can_be_trained_on(test_data: Path) -> None:
    stage = stage_of(f"data.source={json.dumps(str(test_data / 'fsdd'))}", 'data.holdout_speakers=["theo"]')
    assert {row.message.partition(":")[0] for row in stage.data.quarantine} <= {"too short for its transcript"}
    assert len(stage.data.training_set) > 2_000
    assert stage.speakers == {"george", "jackson", "lucas", "nicolas", "yweweler"}
    model = stage.config.model
    assert model.emissions != "auto"
    assert find_infeasible(stage.data.training_set, model.emissions, model.mel) == {}
    batches = stage.batches()
    for step in range(3):
        assert stage.loss(batches.collate(batches.ids(step))).sum.isfinite()
    assert {row.speaker for row in stage.data.corpus.recordings("test")} == {"theo"}


def test_some_utterances_are_heard_in_chunks() -> None:
    stage = stage_of("model.streaming.share=0.5", "model.streaming.chunk=4", "model.streaming.left=1")
    batch = stage.batches().collate(stage.batches().ids(0))
    rows = range(len(batch.lengths))
    assert 0 < batch.in_chunks < len(rows)
    expected = 0.0
    for row in rows:
        one = batch.rows(row, row + 1)
        logits = stage.encode(one, in_chunks=row < batch.in_chunks)
        expected += float(ctc_sum(logits.frames, logits.lengths, one.targets, one.target_lengths).detach())
    loss = stage.loss(batch)
    assert float(loss.sum.detach()) == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(loss.sum)
    assert {"wer", "wer_in_chunks"} <= stage.validate().metrics.keys()
    assert "wer_in_chunks" in stage.evaluate("val", limit=2).estimates
    assert "wer_in_chunks" not in stage_of().validate().metrics
