"""Traced against real memory of a training step, each in a process of its own: what the peak of resident memory rises by.

python tests/benchmarks/planned_memory.py tiny pretrain asr vision codec aligner talker vocoder sft

Upstream runs are the newest below $OMNICTL_RUNS. Freed memory goes back to the system here, so that only what lives counts. The
rise leaves out the loaded model and the batch, and includes what a trace cannot see: kernels' workspaces and what the allocator
leaves lying.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from omnictl.data.cache import cache_dir
from omnictl.nn.recompute import set_checkpointing
from omnictl.nn.statistics import forget_batch_statistics
from omnictl.runs.run import newest_run
from omnictl.stages import stage_type
from omnictl.train.optim import Optimizers, choose_optimizer
from omnictl.train.precision import Precision
from omnictl.train.tracing import traced_peak

MODES = ("off", "full")
PARTS = (1, 2, 4)  # of the batch
MIB = 2**20
RUNS = Path(os.environ.get("OMNICTL_RUNS", "runs"))


def make_stage(name: str, preset: str) -> Any:
    kind: Any = stage_type(name)
    config = kind.presets[preset]
    if not kind.needs:
        return kind.create(config, cache=cache_dir())
    upstream = {part: newest_run(RUNS, part, "finished").model for part in kind.needs}
    return kind.create(config, cache=cache_dir(), upstream=upstream)


def peak_resident() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def measure(name: str, preset: str, mode: Any, part: int, precision: Precision) -> None:
    stage = make_stage(name, preset)
    config, batches = stage.config.train, stage.batches()
    size = -(-config.batch_size // part)
    batch = batches.collate(batches.largest(size))
    kind = choose_optimizer(config, stage.model, stage.work(batch).flops * part)
    set_checkpointing(stage.model, mode)
    traced = traced_peak(stage, batch, config, optimizer=kind, precision=precision, accumulates=False)
    optimizers = Optimizers(stage.model, config, kind)
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with precision.autocast(torch.device("cpu")):
            loss = stage.loss(batch)
        torch.autograd.backward(loss.sum)
        torch.nn.utils.clip_grad_norm_(optimizers.parameters, 1.0)
        for each in optimizers.parts:
            each.step()
        optimizers.zero_grad()
        forget_batch_statistics(stage.model)
        seconds.append(time.perf_counter() - began)
    rise = peak_resident() - before
    planned = traced.total - traced.lasting
    print(
        f"{name:9} {preset} {precision.name} {mode:5} {size:4}  traced {planned / MIB:8.1f}  real {rise / MIB:8.1f} MiB "
        f" {planned / rise - 1:+.1%}  {size / min(seconds):.1f} examples/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--one", nargs=2, metavar=("MODE", "PART"))
    given = parser.parse_args()
    precision = Precision(given.precision, "benchmark")
    if given.one:
        measure(given.stages[0], given.preset, given.one[0], int(given.one[1]), precision)
        return
    for name in given.stages:
        for mode in MODES:
            for part in PARTS:
                own = [sys.executable, __file__, given.preset, name, "--precision", given.precision, "--one", mode, str(part)]
                subprocess.run(own, check=True)


if __name__ == "__main__":
    main()
