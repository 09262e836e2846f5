"""What a step takes in several processes: the work of a share, and the sum of gradients that all of them wait for.

OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 tests/benchmarks/several_processes.py tiny pretrain

Divided by the bytes that go to each process and come from it, the sum's time is the bandwidth that docs/several_processes.md uses.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.untrained_stages import untrained_stage
from omnictl.processes import end
from omnictl.trainer.distributed.process_group import ProcessGroup, join_world
from omnictl.trainer.hardware.device import keep_freed_memory
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import Share
from omnictl.trainer.optim.gradient import accumulate, sum_over_processes

CPU = torch.device("cpu")
FP32 = Precision("fp32", "benchmark")
STEPS, WARM_UP = 12, 3


def main(preset: str, name: str, group: ProcessGroup) -> None:
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = Share(stage.batches(), group, divisible=stage.divisible)
    parameters = [parameter for parameter in stage.model.parameters() if parameter.requires_grad]
    working, summing = [], []
    for step in range(STEPS):
        stage.model.zero_grad(set_to_none=True)
        began = time.perf_counter()
        found = accumulate(stage, [batches.collate(batches.ids(step))], precision=FP32, scaler=FP32.scaler(CPU))
        working.append(time.perf_counter() - began)
        group.gather(None)  # nobody is still at work
        began = time.perf_counter()
        sum_over_processes(found, stage.model, group)
        summing.append(time.perf_counter() - began)
    work, total = (statistics.median(seconds[WARM_UP:]) for seconds in (working, summing))
    moved = 2 * (group.size - 1) / group.size * 4 * sum(parameter.numel() for parameter in parameters)
    if group.is_main:
        print(
            f"{name} {preset}, {group.size} processes: work {work * 1e3:.1f} ms, sum of {moved / 1e6:.1f} MB {total * 1e3:.1f} ms"
            f" ({moved / total / 1e9:.2f} GB/s), {work / (work + total):.0%} of the time is work"
        )


if __name__ == "__main__":
    main(*sys.argv[1:], join_world())
    end(0)
