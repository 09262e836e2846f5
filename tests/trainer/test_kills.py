"""SIGKILLs, half of them inside a save, leave no trace in what a run ends with.

Each attempt is a process of its own, forked from a server that has torch imported. Every second one is killed from outside
after a random time; the others kill themselves inside a save, before a random one of the calls that touch the disk.
"""

import hashlib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from stage_factory import make_stage

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.runs.run import Run, create_run
from omnictl.stages import STAGES, stage_recipe, stage_type
from omnictl.trainer import checkpoint, loop, trainer
from omnictl.trainer.log import StepRecord
from omnictl.trainer.stage import Report

pytestmark = pytest.mark.faults

SEED = 20
SHORT = [
    "train.precision=fp32",
    "train.steps=27",
    "train.save_every=3",
    "train.eval_every=9",
    "train.batch_size=5",
    "train.micro_batch=3",
]
SETTINGS = {
    "pretrain": [
        "train.precision=fp32",
        "train.steps=120",
        "train.save_every=3",
        "train.eval_every=30",
        "train.optimizer=muon",
        "model.dropout=0.1",
        "model.layers=1",
        "data.num_eval_documents=5",
    ],
    "asr": [*SHORT, "train.runtime.workers=2", "model.dropout=0.1", "data.speeds=[1.0, 1.1]", "data.num_eval_utterances=2"],
    "vision": [*SHORT, "train.average=0.9", "train.runtime.workers=2", "model.dropout=0.1", "data.augmentation=strong"],
    "codec": [*SHORT, "book_dropout=0.5"],
    "aligner": SHORT,
    "vocoder": SHORT,
    "talker": [*SHORT, "model.dropout=0.1"],
    "sft": [*SHORT, "projector_steps=10"],
}
CALLS_OF_A_SAVE = 24
"""Roughly how many calls of one save touch the disk."""


class Nobody:
    """An observer that does not look."""

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        pass

    def step(self, record: StepRecord) -> None:
        pass

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def attempt(path: Path, kill_at: int | None, pipe: Connection) -> None:
    """In a child: train until the end or until killed; with `kill_at`, before that call within the saves.

    The pipe gets a message when training begins.
    """
    torch.set_num_threads(1)
    vars(trainer)["matmul_rate"] = lambda device: 1e11  # timing it takes longer than an attempt
    if kill_at is not None:
        die_within_a_save(kill_at)
    run = Run(path)
    stage = stage_type(run.stage).open(run.model, data=None, cache=cache_dir())
    pipe.send("ready")
    loop.train(stage, stage.config.train, run, device=torch.device("cpu"), observer=Nobody())


def die_within_a_save(at: int) -> None:
    """Count the calls that touch the disk within saves, and die before the `at`-th."""
    count = 0
    inside = False

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += inside
            if inside and count == at:
                if call is save_file:  # leave half of the file behind
                    call(*args, **kwargs)
                    os.truncate(args[1], args[1].stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    def save(*args: Any, **kwargs: Any) -> Path:
        nonlocal inside
        inside = True
        folder: Path = save_checkpoint(*args, **kwargs)
        inside = False
        return folder

    save_checkpoint, save_file = vars(trainer)["save_checkpoint"], vars(checkpoint)["save_file"]
    vars(trainer)["save_checkpoint"] = save
    vars(checkpoint)["save_file"] = counted(save_file)
    for owner, name in [(os, "fsync"), (os, "rmdir"), (Path, "mkdir"), (Path, "replace"), (Path, "unlink"), (shutil, "rmtree")]:
        setattr(owner, name, counted(getattr(owner, name)))


@pytest.fixture(scope="module")
def processes() -> Any:
    """A context whose processes start with torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *(f"omnictl.stages.{name}" for name in STAGES),
            "omnictl.trainer.loop",
            "omnictl.trainer.trainer",
            "torch._dynamo",
            "whisper_normalizer.english",
            "inflect",
        ]
    )
    return context


class Ended(NamedTuple):
    """How an attempt ended."""

    exit_code: int
    seconds: float  # from the begin of training


def run_child(processes: Any, run: Run, *, kill_at: int | None = None, kill_after: float | None = None) -> Ended:
    """An attempt in a child, killed inside a save, or so many seconds after training began, or not at all."""
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=attempt, args=(run.path, kill_at, sender))
    process.start()
    sender.close()
    receiver.recv()
    began = time.monotonic()
    process.join(kill_after)
    process.kill()
    process.join()
    return Ended(process.exitcode, time.monotonic() - began)


def hashes(run: Run) -> dict[str, str]:
    last = max(run.checkpoints.glob("step-*"))
    files = [*sorted(last.iterdir()), run.metrics_file, run.model / "model.safetensors", run.path / "best.json"]
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_images(folder: Path) -> str:
    """Class folders; the setting that names them."""
    for seed, (split, name) in enumerate(itertools.product(["train"] * 12 + ["val"] * 2, ["cat", "dog"])):
        place = folder / "images" / split / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(place / f"{seed}.png")
    return f"data.source={json.dumps(str(folder / 'images'))}"


@pytest.mark.parametrize(
    ("name", "kills", "longest"),
    [("pretrain", 20, 1 / 15), *((name, 3, 1 / 6) for name in STAGES if name != "pretrain")],
    ids=STAGES,
)
def test_kills_leave_no_trace(name: str, kills: int, longest: float, processes: Any, tmp_path: Path) -> None:
    """So many, those from outside after up to this share of an undisturbed run."""
    recipe = stage_recipe(name)
    data = [write_images(tmp_path)] if name == "vision" else []
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=[*SETTINGS[name], *data])
    run = create_run(tmp_path, name, "killed", {"parents": {}})
    stage = make_stage(name, config)
    stage.save_description(run.model)
    stage.batches()
    stage.validate()  # now what takes time to make is in the cache
    undisturbed = Run(Path(shutil.copytree(run.path, tmp_path / "undisturbed")))
    whole = run_child(processes, undisturbed)
    assert whole.exit_code == 0

    generator = random.Random(SEED)
    for number in range(kills):
        if number % 2:
            ended = run_child(processes, run, kill_at=generator.randint(1, 2 * CALLS_OF_A_SAVE))
        else:
            ended = run_child(processes, run, kill_after=generator.uniform(0, whole.seconds * longest))
        assert ended.exit_code == -signal.SIGKILL, f"seed {SEED}, kill {number}: it ended by itself, {ended}"
        assert run.record()["status"] == "running"

    assert run_child(processes, run).exit_code == 0
    assert hashes(run) == hashes(undisturbed)
