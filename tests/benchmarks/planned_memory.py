"""Traced against real memory of a training step, each in a process of its own: what the peak of resident memory rises by.

python tests/benchmarks/planned_memory.py tiny pretrain asr vision codec aligner talker vocoder sft

What a stage stands on is untrained, the data is a little of the built-in world. The process is loaded first: a step of one example
has run, so that code and the libraries' own buffers are there. Freed memory goes back to the system at once here, so that only what
lives counts. The figure leaves out the loaded model and the batch, and includes what a trace cannot see: kernels' workspaces.
Of a batch in 1, 2, 4, … parts, the first three that this machine can take are measured; then the evaluation between two steps.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.untrained_stages import untrained_stage
from omnictl.nn.batch_statistics import forget_batch_statistics
from omnictl.nn.recompute import set_checkpointing
from omnictl.trainer.hardware.device import MemoryRise
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.optim.optimizers import Optimizers, choose_optimizer
from omnictl.trainer.plan.free_memory import budget, free_memory
from omnictl.trainer.plan.memory_trace import trace_passes, trace_step

CPU = torch.device("cpu")
MODES = ("off", "full")
EVALUATION = "evaluation"
MEASURED = 3
"""Micro-batches of each stage."""

TOO_LARGE = 5
"""Exit code of a process whose step this machine cannot take."""

MIB = 2**20


def give_back_freed_memory() -> None:
    """Let every larger block be a mapping of its own, which the system has back when it is freed."""
    mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
    ctypes.CDLL("libc.so.6").mallopt(mmap_threshold, 64 * 1024)


class Measured(NamedTuple):
    """Of one step: examples at a time, bytes beyond the loaded model, examples a second."""

    size: int
    planned: int
    real: int
    speed: float


def measure(name: str, preset: str, mode: Any, part: int, precision: Precision, device: torch.device) -> Measured:
    """A step of one part of a batch in 1, 2, 4, … parts, traced and taken."""
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = stage.batches()  # while what it stands on is there
    config = stage.config.train
    size = -(-config.batch_size // part)
    batch = batches.collate(batches.largest(size))
    kind = choose_optimizer(config, stage.model, stage.work(batch).flops * part)
    stage.model.to(device)
    set_checkpointing(stage.model, mode)
    traced = trace_step(stage, batch, config, optimizer=kind, precision=precision, accumulates=False)
    if traced.total > budget(free_memory(device), device):
        sys.exit(TOO_LARGE)
    optimizers = Optimizers(stage.model, config, kind)
    take_step(stage, batches.collate(batches.ids(0)[:1] if stage.divisible else batches.ids(0)), optimizers, precision, device)
    moments = sum(tensor.nbytes for tensor in optimizers.state_tensors().values())
    with MemoryRise(device) as rise:
        began = time.perf_counter()
        take_step(stage, batch, optimizers, precision, device)
        seconds = time.perf_counter() - began
    return Measured(size, traced.extra_bytes, rise.bytes + moments, size / seconds)


def measure_evaluation(name: str, preset: str, precision: Precision, device: torch.device) -> Measured:
    """The heaviest passes of an evaluation, traced and done."""
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = stage.batches()
    stage.model.to(device)
    passes = stage.heaviest_passes(batches)
    traced = trace_passes(stage, passes, stage.config.train, optimizer="adamw", precision=precision)
    stage.model.eval()
    began = time.perf_counter()
    with torch.no_grad(), precision.autocast(device):
        stage.loss(batches.collate(batches.largest(1)))
        with MemoryRise(device) as rise:
            for each in passes:
                each()
    return Measured(
        len(passes), traced.extra_bytes - traced.parts["optimizer"], rise.bytes, len(passes) / (time.perf_counter() - began)
    )


def take_step(stage: Any, batch: Any, optimizers: Optimizers, precision: Precision, device: torch.device) -> None:
    stage.model.train()
    with precision.autocast(device):
        loss = stage.loss(batch)
    torch.autograd.backward(loss.sum)
    torch.nn.utils.clip_grad_norm_(optimizers.parameters, 1.0)
    for each in optimizers.parts:
        each.step()
    optimizers.zero_grad()
    forget_batch_statistics(stage.model)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--one", nargs=2, metavar=("MODE", "PART"))
    given = parser.parse_args()
    precision = Precision(given.precision, "benchmark")
    if given.one:
        give_back_freed_memory()
        (name,), (mode, part) = given.stages, given.one
        if mode == EVALUATION:
            size, planned, real, speed = measure_evaluation(name, given.preset, precision, CPU)
        else:
            size, planned, real, speed = measure(name, given.preset, mode, int(part), precision, CPU)
        print(
            f"{name:9} {given.preset} {precision.name} {mode:10} {size:4}  traced {planned / MIB:8.1f}  real {real / MIB:8.1f} MiB "
            f" {planned / real - 1:+.1%}  {speed:.1f} examples/s",
            flush=True,
        )
        return
    for name in given.stages:
        own = [sys.executable, __file__, given.preset, name, "--precision", given.precision, "--one"]
        for mode in MODES:
            fitting = (part for part in powers_of_two() if fits([*own, mode, str(part)]))
            list(islice(fitting, MEASURED))
        fits([*own, EVALUATION, "1"])


def powers_of_two() -> Iterator[int]:
    return (2**exponent for exponent in count())


def fits(command: Sequence[str]) -> bool:
    """Measure in a process of its own; whether this machine could take it."""
    code = subprocess.run(command, check=False).returncode
    if code not in (0, TOO_LARGE):
        sys.exit(code)
    return code == 0


if __name__ == "__main__":
    main()
