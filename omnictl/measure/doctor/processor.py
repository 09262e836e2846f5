"""What the CPU can do, what that means for number formats, and how much of it training gets."""

import os
import platform
from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from omnictl.measure.doctor.finding import Finding, ok, warn
from omnictl.trainer.hardware.precision import product_rate

FORMATS, THREADS = "CPU", "threads"

LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
"""Environment variables that keep torch from using what the CPU has."""

LEVELS = {"DEFAULT": 0, "AVX2": 1, "AVX512": 2}
"""Of torch's own kernels, as `get_cpu_capability` names them."""

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names them, the last on ARM."""

BUSY = 0.75
"""Other programs' share of the cores from which on it is worth a line."""

CROWDED = 2
"""Threads a core above which each is slowed down; two are what some cores are made for."""


class CpuFacts(NamedTuple):
    """What a CPU has, and what torch takes of it."""

    machine: str
    """As the system names the architecture."""
    flags: Set[str]
    """Empty where the system does not tell."""
    torch_capability: str
    environment: Mapping[str, str]
    rates: Mapping[str, float]
    """Operations a second by number format; empty if not measured."""


class ThreadFacts(NamedTuple):
    """How much of the CPU training gets."""

    threads: int
    cores: int
    """That this process may run on; of two threads of one core, one is counted."""
    quota: float | None
    """Of a container, in cores."""
    load: float
    """Mean number of processes that wanted to run, in the last minute."""
    environment: Mapping[str, str]


def read_cpu_facts(*, measured: bool) -> CpuFacts:
    """Ask the system and torch, and perhaps time products of small matrices."""
    rates = {name: product_rate(name) for name in ("fp32", "bf16")} if measured else {}
    capability = torch.backends.cpu.get_cpu_capability()
    return CpuFacts(platform.machine(), _read_flags(), capability, os.environ, rates)


def check_cpu(facts: CpuFacts) -> Finding:
    """What the CPU's instructions mean for training."""
    limited = [f"{name}={facts.environment[name]}" for name in LIMITS if facts.environment.get(name)]
    if limited:
        message = f"{' and '.join(limited)} keep torch from using all that this CPU has"
        return warn(FORMATS, message, f"unset {' '.join(name.partition('=')[0] for name in limited)}")
    is_x86 = facts.machine in ("x86_64", "AMD64")
    if is_x86 and facts.flags and "avx2" not in facts.flags:
        message = "no AVX2: torch multiplies several times more slowly than the times in README"
        return warn(FORMATS, message, "train on a GPU or on a newer CPU, or let --max-minutes plan with what there is")
    best = "AVX512" if "avx512f" in facts.flags else "AVX2" if "avx2" in facts.flags else "DEFAULT"
    if is_x86 and LEVELS.get(facts.torch_capability, 9) < min(LEVELS[best], LEVELS["AVX2"]):
        message = f"torch uses {facts.torch_capability} instructions only, the CPU has {best}"
        return warn(FORMATS, message, "install torch from PyPI or pytorch.org instead of a build for older CPUs")
    return ok(FORMATS, f"{_name(facts, best)}; {_formats(facts)}{_rates(facts)}")


def read_thread_facts() -> ThreadFacts:
    """Ask torch, the system and its control groups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    return ThreadFacts(torch.get_num_threads(), cores, _read_quota(), psutil.getloadavg()[0], os.environ)


def check_threads(facts: ThreadFacts) -> Finding:
    """Whether torch starts as many threads as can run."""
    usable = facts.cores if facts.quota is None else min(facts.cores, max(1, int(facts.quota)))
    if facts.quota is not None and facts.threads > max(1.0, facts.quota):
        message = f"{facts.threads} threads share the time of {facts.quota:g} cores, which is what this container may use"
        return warn(THREADS, message, f"export OMP_NUM_THREADS={usable}")
    if facts.threads > CROWDED * usable:
        message = f"{facts.threads} threads get in one another's way on {usable} cores"
        return warn(THREADS, message, "unset OMP_NUM_THREADS")
    if facts.threads < usable and facts.environment.get("OMP_NUM_THREADS"):
        message = f"OMP_NUM_THREADS={facts.environment['OMP_NUM_THREADS']} leaves {usable - facts.threads} of {usable} cores idle"
        return warn(THREADS, message, "unset OMP_NUM_THREADS")
    if facts.load > facts.threads + BUSY * usable:  # as when two trainings share the machine
        message = f"other programs want the same {usable} cores (load {facts.load:.1f}): training will be slower than planned"
        return warn(THREADS, message, "stop them, or wait until they have ended")
    return ok(THREADS, f"{facts.threads} on {usable} cores")


def _name(facts: CpuFacts, best: str) -> str:
    return f"{facts.machine} with {best}" if best != "DEFAULT" else facts.machine


def _formats(facts: CpuFacts) -> str:
    if facts.flags & BF16_FLAGS:
        return "bf16 in hardware: the faster of fp32 and bf16 is taken"
    return "no bf16 in hardware: trains in fp32" if facts.flags else "bf16 unknown: the faster of fp32 and bf16 is taken"


def _rates(facts: CpuFacts) -> str:
    return "".join(f", {rate / 1e9:.3g} GFLOP/s in {name}" for name, rate in facts.rates.items())


def _read_flags(file: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What Linux says a CPU has; empty elsewhere."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), []))


def _read_quota(groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The cores that a container may use; None without a limit."""
    try:
        first, second = (groups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            first = (groups / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            second = (groups / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if first in ("max", "-1") else int(first) / int(second)
