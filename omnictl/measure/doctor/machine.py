"""The doctor's look at the machine: everything, or in front of a first training what takes no time."""

from collections.abc import Iterator
from pathlib import Path

import torch

from omnictl.measure.doctor.finding import Finding
from omnictl.measure.doctor.gpu import check_gpu, read_gpu_facts
from omnictl.measure.doctor.processor import check_cpu, check_threads, read_cpu_facts, read_thread_facts
from omnictl.measure.doctor.software import check_python, check_wheels, read_wheels
from omnictl.measure.doctor.space import check_disk, check_memory, check_shared_memory, read_disk_facts
from omnictl.trainer.plan.free_memory import free_memory


def examine_machine(runs: Path, cache: Path, device: torch.device, *, measured: bool = True) -> Iterator[Finding]:
    """Look at the machine, one subject after the other.

    Args:
        runs: the folder of all runs.
        cache: folder of the cache.
        device: what is trained on.
        measured: whether to time the CPU and the disks, which takes some seconds and writes 24 MB for a moment.
    """
    yield check_gpu(read_gpu_facts())
    yield check_cpu(read_cpu_facts(measured=measured))
    yield check_threads(read_thread_facts())
    yield check_memory(free_memory(device), device)
    yield check_disk(read_disk_facts("runs", runs, "--runs DIR or OMNICTL_RUNS", measured=measured))
    yield check_disk(read_disk_facts("cache", cache, "OMNICTL_CACHE", measured=measured))
    if (shared := check_shared_memory()) is not None:
        yield shared


def examine_briefly(runs: Path, cache: Path, device: torch.device) -> list[Finding]:
    """What is wrong of that which can be seen in a moment; arguments as for `examine_machine`."""
    seen = [check_python(), check_wheels(read_wheels(imported=False)), *examine_machine(runs, cache, device, measured=False)]
    return [finding for finding in seen if finding.level != "ok"]
