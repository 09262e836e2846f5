"""SIGKILLs, half of them inside a save, leave no trace in what a run ends with.

Each attempt is a process of its own, forked from a server that has torch imported. Every second one is killed from outside
after a random time; the others kill themselves inside a save, before a random one of the calls that touch the disk. A pipeline is
killed in tests/cli/train/test_pipeline_command.py.
"""

import hashlib
import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill_server import CALLS_OF_A_SAVE, KILLS, kill_server, run_child
from PIL import Image
from stage_factory import make_stage

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.runs.run import Run, create_run
from omnictl.stages import STAGES, stage_recipe, stage_type
from omnictl.trainer import loop
from omnictl.trainer.log import StepRecord
from omnictl.trainer.stage import Report

pytestmark = pytest.mark.faults

SEED = 20

KILLS_EACH = max(2, KILLS // len(STAGES))
"""Of each stage."""

STEPS = 9 * KILLS_EACH
"""Two saves more than an attempt may make before it is killed."""

SHORT = [
    "train.precision=fp32",
    f"train.steps={STEPS}",
    "train.save_every=3",
    "train.eval_every=9",
    "train.batch_size=5",
    "train.micro_batch=3",
]
SETTINGS = {
    "pretrain": [*SHORT, "train.optimizer=muon", "model.dropout=0.1", "model.layers=1", "data.num_eval_documents=5"],
    "asr": [*SHORT, "train.runtime.workers=2", "model.dropout=0.1", "data.speeds=[1.0, 1.1]", "data.num_eval_utterances=2"],
    "vision": [*SHORT, "train.average=0.9", "train.runtime.workers=2", "model.dropout=0.1", "data.augmentation=strong"],
    "codec": [*SHORT, "book_dropout=0.5"],
    "aligner": SHORT,
    "vocoder": SHORT,
    "talker": [*SHORT, "model.dropout=0.1"],
    "sft": [*SHORT, "projector_steps=10"],
}


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


def attempt(path: Path, ready: Callable[[], None]) -> None:
    """In a child: train until the end or until killed."""
    run = Run(path)
    stage = stage_type(run.stage).open(run.model, data=None, cache=cache_dir())
    ready()
    loop.train(stage, stage.config.train, run, device=torch.device("cpu"), observer=Nobody())


@pytest.fixture(scope="module")
def server() -> Any:
    return kill_server(*(f"omnictl.stages.{name}" for name in STAGES), "whisper_normalizer.english", "inflect")


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


@pytest.mark.parametrize("name", STAGES)
def test_kills_leave_no_trace(name: str, server: Any, tmp_path: Path) -> None:
    recipe = stage_recipe(name)
    data = [write_images(tmp_path)] if name == "vision" else []
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=[*SETTINGS[name], *data])
    run = create_run(tmp_path, name, "killed", {"parents": {}})
    stage = make_stage(name, config)
    stage.save_description(run.model)
    stage.batches()
    stage.validate()  # now what takes time to make is in the cache
    undisturbed = Run(Path(shutil.copytree(run.path, tmp_path / "undisturbed")))
    whole = run_child(server, attempt, undisturbed.path)
    assert whole.exit_code == 0

    generator = random.Random(SEED)
    for number in range(KILLS_EACH):
        if number % 2:
            ended = run_child(server, attempt, run.path, kill_at=generator.randint(1, 2 * CALLS_OF_A_SAVE))
        else:
            longest = whole.seconds / (3 * KILLS_EACH)  # a third of the steps, all attempts together
            ended = run_child(server, attempt, run.path, kill_after=generator.uniform(0, longest))
        assert ended.killed, f"seed {SEED}, kill {number}: it ended by itself, {ended}"
        assert run.record()["status"] == "running"

    assert run_child(server, attempt, run.path).exit_code == 0
    assert hashes(run) == hashes(undisturbed)
