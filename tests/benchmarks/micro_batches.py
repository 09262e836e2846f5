"""How fast a batch goes through in 1, 2, 4, … parts: whether the largest micro-batch, which the planner takes, is the fastest.

python tests/benchmarks/micro_batches.py tiny pretrain asr vision codec aligner talker vocoder sft

Sizes take turns, so that a machine that slows down slows all of them; of each, the median of the steps counts.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from omnictl.bench import Step, take_step
from omnictl.data.cache import cache_dir
from omnictl.train.device import keep_freed_memory
from omnictl.train.memory import MemoryPlan, micro_batches
from omnictl.train.optim import Optimizers, choose_optimizer
from omnictl.train.trial import precision_for
from omnictl.untrained import untrained_stage

CPU = torch.device("cpu")
PARTS = 4  # sizes: the whole batch, a half, a quarter, an eighth
ROUNDS, WARM_UP = 7, 2


def measure(name: str, preset: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = stage.batches()
    config, ids = stage.config.train, batches.ids(0)
    kind = choose_optimizer(config, stage.model, stage.work(batches.collate(ids)).flops)
    precision, optimizers = precision_for(stage, batches, config.precision, CPU), Optimizers(stage.model, config, kind)
    plans = [MemoryPlan(size, "off", None, None) for size in micro_batches(len(ids))[:PARTS]]
    taken: dict[int, list[Step]] = {plan.micro_batch: [] for plan in plans}
    for step in range(ROUNDS + WARM_UP):
        for plan in plans:
            made = take_step(stage, batches, step, optimizers, plan, precision, CPU)
            if step >= WARM_UP:
                taken[plan.micro_batch].append(made)
    speeds = {size: statistics.median(made.work.units / made.seconds for made in steps) for size, steps in taken.items()}
    best = max(speeds.values())
    shown = ", ".join(f"{size}: {speed:,.0f} ({speed / best:.0%})" for size, speed in speeds.items())
    print(f"{name:9} {precision.name}  {stage.unit}/s at micro-batches of {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("stages", nargs="+")
    given = parser.parse_args()
    keep_freed_memory()
    for name in given.stages:
        measure(name, given.preset)


if __name__ == "__main__":
    main()
