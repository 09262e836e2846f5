"""Small vision stages, and corpora for them, that several tests share."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from omnictl.config import resolve
from omnictl.config.split import SPLITS
from omnictl.data.images.batches import UNKNOWN, ImageBatch
from omnictl.data.manifest.cache import cache_dir
from omnictl.runs.run import Run, create_run
from omnictl.stages.protocol import StageContext
from omnictl.stages.vision import PRESETS, Vision, VisionConfig
from omnictl.trainer.checkpoint import load_weights, plain_state_dict, save_tensors

CONTRASTIVE = "objective=contrastive"
SMALL = ("captions.width=16", "captions.layers=1", "captions.hidden=32")
"""A caption encoder that reads the hundred classes in no time."""

Randomise = Callable[[nn.Module], None]


def config_of(*overrides: str) -> VisionConfig:
    return resolve(VisionConfig, preset=PRESETS["debug"], overrides=[*SMALL, *overrides])


def stage_of(*overrides: str, init: Run | None = None) -> Vision:
    return Vision.create(config_of(*overrides), context=StageContext(cache_dir(), init))


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(path)


def write_classes(folder: Path, *names: str, count: int = 5) -> Path:
    """Class folders in three splits, of images that are all different."""
    for seed, (split, name, number) in enumerate(itertools.product(SPLITS, names, range(count))):
        write_image(folder / split / name / f"{number}.png", seed)
    return folder


def write_corpus(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A manifest of images `0.png`, `1.png`, …; files that are there already are left alone."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"image": f"{number}.png", **row}) + "\n" for number, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("".join(lines))
    for number in range(len(rows)):
        if not (folder / f"{number}.png").exists():
            write_image(folder / f"{number}.png", seed=number)
    return folder


def on_files(folder: Path, *overrides: str, init: Run | None = None) -> Vision:
    return stage_of(f"data.source={json.dumps(str(folder))}", *overrides, init=init)


def run_of(stage: Vision, folder: Path) -> Run:
    """A run that this stage's model is the best of."""
    run = create_run(folder, "vision", "giver", {})
    stage.save_description(run.model)
    save_tensors(plain_state_dict(stage.model), run.model / "model.safetensors")
    return run


def opened(run: Run, data: str | None = None) -> Vision:
    stage = Vision.open(run.model, data=data, cache=cache_dir())
    load_weights(run.model / "model.safetensors", stage.model)
    return stage


def first_batch(stage: Vision) -> ImageBatch:
    batches = stage.batches()
    return batches.collate(batches.ids(0))


PNG = b"\x89PNG"

PAIRS = [("star", "red"), ("star", "blue"), ("ring", "red")]


def plain_nats(logits: Sequence[float], target: int, smoothing: float) -> float:
    """Cross-entropy with smoothed labels, as a definition says it."""
    if target == UNKNOWN:
        return 0.0
    total = math.log(math.fsum(math.exp(value) for value in logits))
    count = len(logits)
    return math.fsum(
        -(smoothing / count + (1 - smoothing if number == target else 0)) * (value - total) for number, value in enumerate(logits)
    )
