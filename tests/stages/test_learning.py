"""Stages trained until they have learned something, through the commands a person would use."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from omnictl.cli.app import run
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.runs.run import Run
from omnictl.stages.protocol import open_trained
from omnictl.stages.talker import TalkerStage


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
    """It spells what it has heard often, and the wrong recordings do not help it: the transcripts are not in the model alone."""
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


@pytest.mark.slow
def test_a_small_encoder_learns_to_tell_scenes_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """It names shapes and colours in images that it has never seen, and nothing of it holds of other images."""
    settings = [
        "model.image_size=48",
        "model.stem=[16,32,64]",
        "model.layers=2",
        "model.width=96",
        "model.hidden=192",
        "label_smoothing=0",
        "data.num_eval_images=400",
        "train.steps=600",
        "train.batch_size=32",
        "train.optimizer=muon",
        "train.lr=3e-3",
        "train.eval_every=600",
        "train.save_every=600",
        "train.precision=fp32",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    assert run(["vision", "--preset", "debug", *options, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert run(["eval", "vision", "--run", trained["run"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    metrics, controls = found["metrics"], found["controls"]
    assert controls["top1_shuffled"] < 0.1
    assert controls["top1_shuffled_floor"] < 0.1
    assert metrics["top1"] > 0.4
    assert metrics["accuracy_colour"] > 0.9
    assert metrics["top1_heldout_pairs"] > 0.1
    assert metrics["patch_accuracy"] > 0.2


@pytest.mark.slow
def test_a_small_talker_learns_what_the_text_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded codes surprise it far less with the text that they belong to than with another."""
    sizes = ["data.num_utterances=400", "codec.model.width=96", "talker.model.width=96", "talker.model.hidden=192"]
    schedule = {"codec": (300, 2e-3), "aligner": (150, 5e-3), "talker": (300, 3e-3)}
    settings = [*sizes, "codec.crop_frames=96", "codec.model.quantiser.codes=64", "aligner.model.width=64"]
    for part, (steps, lr) in schedule.items():
        values = {"steps": steps, "lr": lr, "batch_size": 16, "eval_every": steps, "save_every": steps, "precision": "fp32"}
        settings += [f"{part}.train.{key}={value}" for key, value in values.items()]
    options = [word for setting in settings for word in ("--set", setting)]
    assert run(["talker", "--preset", "debug", *options, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    codec = evaluated("codec", capsys)
    assert codec["metrics"]["mel_mse"] < 0.25 * codec["controls"]["mel_mse_mean_frame"]
    assert codec["metrics"]["codebook_perplexity_min_ratio"] > 0.4
    aligner = evaluated("aligner", capsys)
    assert aligner["metrics"]["path_nats"] < 0.3 * aligner["controls"]["path_nats_uniform"]
    stage = open_trained(TalkerStage, Run(Path(trained["run"])), device=torch.device("cpu"), cache=cache_dir())
    own = stage.validate().metrics["nats_per_code"]
    found = stage.code_split("val")
    symbols = [[1 + symbol % (ReadAloud.num_symbols - 1) for symbol in text] for text in found.symbols]
    stage._coded["val"] = replace(found, symbols=symbols)
    assert stage.validate().metrics["nats_per_code"] > own + 0.3
    assert own < trained["headline"]["value"] + 1e-3 < 3.5


def evaluated(stage: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the newest run of a stage is worth."""
    assert run(["eval", stage, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
