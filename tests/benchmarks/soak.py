"""Whether memory, handles and threads stay where they are when omnictl runs for long: an hour of stage E, and a long conversation.

omnictl pipeline --preset debug
python tests/benchmarks/soak.py train runs/sft/* --minutes 60
python tests/benchmarks/soak.py chat runs/sft/* --turns 2000

`train` trains the run's config anew in a temporary folder, with an evaluation and a save every twenty steps. `chat` holds one
conversation through the Python API: texts, images and recordings of random sizes, some of the files broken; now and then it
transcribes, classifies and speaks, too. Warm-up is the first tenth. Exit code 1 if resident memory, as a median, is more than 5 %
higher in the last tenth than in the one after warm-up, or if there are more handles or threads at the end than after warm-up.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image

import omnictl
from omnictl.config import resolve
from omnictl.data.audio.decoder import wav_bytes
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import OmniError
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.job import create_job, train_job
from omnictl.runs.run import Run
from omnictl.stages import command_recipe
from omnictl.trainer.log import StepRecord
from omnictl.trainer.stage import Report

SAMPLES = 200
MOST_GROWTH = 0.05
SEED = 0


class Usage(NamedTuple):
    """What the process holds at a moment."""

    done: int  # steps or turns
    rss: int  # bytes
    handles: int
    threads: int
    children: int


class Meter:
    """Looks at this process now and then."""

    def __init__(self) -> None:
        self.process, self.usages = psutil.Process(), list[Usage]()

    def look(self, done: int) -> None:
        process = self.process
        with process.oneshot():
            rss, handles, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        self.usages.append(Usage(done, rss, handles, threads, len(process.children(recursive=True))))

    def verdict(self) -> dict[str, object]:
        """How the tenth after warm-up compares with the last one."""
        tenth = max(1, len(self.usages) // 10)
        first, last = self.usages[tenth : 2 * tenth], self.usages[-tenth:]
        before, after = (statistics.median(usage.rss for usage in part) for part in (first, last))
        leaks = {
            name: [max(getattr(usage, name) for usage in part) for part in (first, last)]
            for name in ("handles", "threads", "children")
        }
        holds = after <= before * (1 + MOST_GROWTH) and all(end <= begin for begin, end in leaks.values())
        return {
            "done": self.usages[-1].done,
            "rss_mib": [round(before / 2**20, 1), round(after / 2**20, 1)],
            "growth": round(after / before - 1, 4),
            **leaks,
            "holds": holds,
        }


class Watch:
    """An observer that looks at the process, and after so many seconds asks it to end."""

    def __init__(self, meter: Meter, seconds: float) -> None:
        self.meter, self.seconds, self.began, self.counts = meter, seconds, time.monotonic(), Counter[str]()

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        pass

    def step(self, record: StepRecord) -> None:
        elapsed = time.monotonic() - self.began
        if elapsed >= len(self.meter.usages) * self.seconds / SAMPLES:
            self.meter.look(record.step)
        if elapsed > self.seconds and not self.counts["stop"]:
            self.counts["stop"] = 1
            os.kill(os.getpid(), signal.SIGTERM)

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        self.counts["evaluations"] += 1

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def soak_training(trained: Run, minutes: float) -> dict[str, object]:
    recipe = command_recipe("sft")
    parents = {name: Run(Path(path)) for name, path in trained.record()["parents"].items()}
    overrides = ["train.steps=1000000000", "train.eval_every=20", "train.save_every=20"]
    config = resolve(recipe.config_type, preset=None, file=trained.config_file, overrides=overrides)
    meter = Meter()
    watch = Watch(meter, 60 * minutes)
    with tempfile.TemporaryDirectory() as folder:
        context = TrainContext(torch.device("cpu"), lambda stage: nullcontext(watch), cache_dir(), watch.note)
        job = create_job(Path(folder), "sft", config, "soak", {}, parents, cache=context.cache)
        outcome = train_job(job, context, deadline=None, max_steps=None)
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "steps": outcome.steps,
        "evaluations": watch.counts["evaluations"],
        "disk_mib": round(disk / 2**20, 1),
        **meter.verdict(),
    }


def write_media(folder: Path, generator: random.Random) -> tuple[list[Path], list[Path]]:
    """Images and recordings of many sizes; every sixth is cut off."""
    images, recordings = [], []
    for number in range(60):
        noise = np.random.default_rng(number)
        image = folder / f"{number}.{generator.choice(['png', 'jpg', 'webp', 'gif', 'bmp'])}"
        height, width = (generator.randint(1, 400) for _ in range(2))
        Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8)).save(image)
        recording = folder / f"{number}.wav"
        samples = noise.normal(0, 0.1, generator.randint(100, 60_000)).astype(np.float32)
        recording.write_bytes(wav_bytes(samples, generator.choice([8_000, 16_000, 44_100, 48_000])))
        for path in (image, recording):
            if number % 6 == 5:
                os.truncate(path, path.stat().st_size // 2)
        images.append(image)
        recordings.append(recording)
    return images, recordings


def soak_conversation(trained: Run, turns: int) -> dict[str, object]:
    generator, meter, outcomes = random.Random(SEED), Meter(), Counter[str]()
    model = omnictl.load(trained.path, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        images, recordings = write_media(Path(folder), generator)
        for turn in range(turns):
            try:
                take_turn(model, images, recordings, generator)
                outcomes["answered"] += 1
            except OmniError as error:
                outcomes[type(error).__name__] += 1
            if turn % max(1, turns // SAMPLES) == 0:
                meter.look(turn + 1)
    return {"turns": turns, **outcomes, **meter.verdict()}


def take_turn(model: omnictl.Model, images: list[Path], recordings: list[Path], generator: random.Random) -> None:
    """One of what people do; raises an `OmniError` where the files are broken or the question is too long."""
    if generator.random() < 0.1:
        generator.choice(
            [
                lambda: model.transcribe(generator.choice(recordings)),
                lambda: model.classify(generator.choice(images)),
                lambda: model.say("The cat is red.", seed=generator.randrange(100)),
            ]
        )()
        return
    text = "".join(generator.choices("abcdefghij klmn opqrst uvwxyz.?é☂", k=generator.randint(0, 60)))
    shown = generator.choices(images, k=generator.choice([0, 0, 1, 1, 2]))
    audio = generator.choice([None, None, generator.choice(recordings)])
    model.chat(text if text.strip() or shown or audio else "hello", images=shown, audio=audio, max_tokens=8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "chat"])
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--turns", type=int, default=2_000)
    given = parser.parse_args()
    run = Run(given.run)
    result = soak_training(run, given.minutes) if given.what == "train" else soak_conversation(run, given.turns)
    print(json.dumps(result))
    sys.exit(0 if result["holds"] else 1)


if __name__ == "__main__":
    main()
