"""Stages trained until they have learned something, through the commands a person would use."""

import json

import pytest

from omnictl.cli.app import run


@pytest.mark.slow
def test_a_small_thinker_learns_tinyworld(capsys: pytest.CaptureFixture[str]) -> None:
    """On documents of another draw it is nearer to the limit than the 5-gram of the same training tokens."""
    model = ["model.width=64", "model.hidden=192", "model.context=256", "data.seq_len=160", "data.vocab_size=1024"]
    schedule = [
        "data.num_documents=8000",
        "train.steps=300",
        "train.batch_size=16",
        "train.eval_every=300",
        "train.save_every=300",
        "train.precision=fp32",
    ]
    options = [word for setting in (*model, *schedule) for word in ("--set", setting)]
    assert run(["pretrain", "--preset", "debug", *options, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert run(["eval", "pretrain", "--run", trained["run"], "--data", "tinyworld:7", "--limit", "200", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["excess_ratio"] < 0.8 * metrics["ngram_excess_ratio"]
    assert metrics["determined_accuracy"] > 0.5


@pytest.mark.slow
def test_a_small_encoder_learns_its_utterances_by_heart(capsys: pytest.CaptureFixture[str]) -> None:
    """It spells what it has heard often, and the wrong sounds do not help it: the transcripts are not in the model alone."""
    settings = [
        "model.width=96",
        "model.layers=2",
        "model.hidden=192",
        "data.num_utterances=64",
        "data.time_mask=0",
        "data.frequency_mask=0",
        "train.steps=250",
        "train.batch_size=16",
        "train.optimizer=muon",
        "train.eval_every=250",
        "train.save_every=250",
        "train.precision=fp32",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    assert run(["asr", "--preset", "debug", *options, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert run(["eval", "asr", "--run", trained["run"], "--split", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["wer"] < 0.3
    assert found["controls"]["wer_shuffled"] > 0.9 * found["controls"]["wer_shuffled_floor"] > 0.8
