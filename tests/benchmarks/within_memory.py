"""What a process holds at most that trains as `omnictl plan --memory` says, beside the figure that it was planned for.

PYTHONPATH=tests/train python tests/benchmarks/within_memory.py small 2GB pretrain asr vision codec aligner talker vocoder sft

Each stage is in a process of its own, which takes two steps of the heaviest micro-batches, a second one of each if there are more.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch
from heaviest import Heaviest
from pydantic import ByteSize, TypeAdapter

from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.bench import take_step
from omnictl.measure.plan import StagePlan, TargetGpu, plan_stage
from omnictl.measure.untrained_stages import untrained_stage
from omnictl.nn.recompute import set_checkpointing
from omnictl.trainer.hardware.device import MemoryRise, return_freed_memory
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.optim.optimizers import Optimizers
from omnictl.trainer.plan.micro_batch import MemoryPlan

CPU = torch.device("cpu")
STEPS = 2
MIB = 2**20


def measure(name: str, preset: str, memory: int) -> tuple[StagePlan, int]:
    """The plan, and bytes that this process holds at most if it follows it; none if nothing fits."""
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = stage.batches()
    made = plan_stage(stage, stage.config.data, TargetGpu(memory), CPU)
    if not made.fits:
        return made, 0
    set_checkpointing(stage.model, made.checkpointing)
    plan, precision = MemoryPlan(made.micro_batch, made.checkpointing, None, None), Precision(made.precision, "planned")
    optimizers, heaviest = (
        Optimizers(stage.model, stage.config.train, made.optimizer),
        Heaviest(batches, made.micro_batch, min(2, made.accumulation)),
    )
    before = psutil.Process().memory_info().rss
    with MemoryRise(CPU) as rise:
        for step in range(STEPS):
            take_step(stage, heaviest, step, optimizers, plan, precision, CPU)
    return made, before + rise.bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("memory")
    parser.add_argument("stages", nargs="+")
    given = parser.parse_args()
    if len(given.stages) > 1:
        for name in given.stages:
            subprocess.run([sys.executable, __file__, given.preset, given.memory, name], check=True)
        return
    return_freed_memory()
    memory = int(TypeAdapter(ByteSize).validate_python(given.memory))
    made, held = measure(given.stages[0], given.preset, memory)
    if not made.fits:
        takes = f"{made.largest_bytes / MIB:,.0f} of {made.room_bytes / MIB:,.0f} MiB"
        print(f"{made.stage:9} {given.preset} {given.memory}: nothing fits, it takes {takes}", flush=True)
        return
    recomputes = "" if made.checkpointing == "off" else f", {made.checkpointing} checkpointing"
    print(
        f"{made.stage:9} {given.preset} {given.memory}: {made.accumulation} × {made.micro_batch} {made.precision}{recomputes},"
        f" planned {made.peak_bytes / MIB:,.0f} of {made.room_bytes / MIB:,.0f} MiB,"
        f" the process holds {held / MIB:,.0f} of {memory / MIB:,.0f} MiB: {'below' if held <= memory else 'ABOVE'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
