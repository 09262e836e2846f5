"""Small recognisers, and corpora for them, that several tests share."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from torch import nn

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.corpus import Samples
from omnictl.runs.run import Run
from omnictl.stages.asr import PRESETS, Asr, AsrConfig
from omnictl.stages.protocol import StageContext

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


TEXTS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SPLITS = ["train"] * 10 + ["val", "test"]
