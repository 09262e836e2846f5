"""How fast a batch goes through in 1, 2, 4, … parts: whether what the planner takes is the fastest.

python tests/benchmarks/micro_batches.py tiny pretrain asr vision codec aligner talker vocoder sft

Sizes take turns, so that a machine that slows down slows all of them, each with several steps in a turn: a heap that other sizes
have left is slower at first. Of each size the median of the steps counts.
"""

import argparse
import statistics
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import torch

from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.bench import Step, take_step
from omnictl.measure.untrained_stages import untrained_stage
from omnictl.trainer.hardware.device import keep_freed_memory
from omnictl.trainer.optim.optimizers import Optimizers, choose_optimizer
from omnictl.trainer.plan.dry_run import precision_for
from omnictl.trainer.plan.micro_batch import MemoryPlan, Steps, fastest_micro_batch, halves

CPU = torch.device("cpu")
PARTS = 4  # sizes: the whole batch, a half, a quarter, an eighth
TURNS, STEPS, WARM_UP = 3, 5, 2


def measure(name: str, preset: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = stage.batches()
    config, ids = stage.config.train, batches.ids(0)
    kind = choose_optimizer(config, stage.model, stage.work(batches.collate(ids)).flops)
    precision = precision_for(stage, batches, config, kind, CPU)
    optimizers = Optimizers(stage.model, config, kind, precision.optimizer_dtype)
    sizes = halves(len(ids))
    chosen = fastest_micro_batch(sizes, partial(Steps(stage, batches, config, kind, precision).seconds, CPU))
    plans = [MemoryPlan(size, "off", None, None) for size in sizes[:PARTS]]
    taken: dict[int, list[Step]] = {plan.micro_batch: [] for plan in plans}
    for turn, plan in product(range(TURNS), plans):
        steps = range(turn * STEPS, (turn + 1) * STEPS)
        made = [take_step(stage, batches, step, optimizers, plan, precision, CPU) for step in steps]
        taken[plan.micro_batch] += made[WARM_UP:]
    speeds = {size: statistics.median(made.work.units / made.seconds for made in steps) for size, steps in taken.items()}
    best = max(speeds.values())
    shown = ", ".join(f"{size}: {speed:,.0f} ({speed / best:.0%})" for size, speed in speeds.items())
    print(f"{name:9} {precision.name}  chosen {chosen}; {stage.unit}/s at micro-batches of {shown}", flush=True)


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
