"""How much memory there is for a step: of the GPU, or of this machine and of the process's control groups.

Of what is free, a share is left to what a trace does not see: fragmentation, workspaces of kernels, the process itself.
"""

from pathlib import Path
from typing import NamedTuple

import psutil
import torch

FRAGMENTATION = 0.08
"""Share of the free memory that allocators leave lying between tensors."""

WORKSPACES = {"cpu": 256 * 2**20, "cuda": 512 * 2**20, "mps": 512 * 2**20}
"""Bytes that kernels take besides tensors: packed matrices, cuBLAS and cuDNN workspaces, threads' stacks."""

ENDLESS = 2**63


def free_memory(device: torch.device) -> int:
    """Bytes that this process could still take: of the GPU, or of the machine and of its control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(psutil.virtual_memory().available, _free_in_control_group())


def _free_in_control_group(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes below the tightest limit of the process's control groups; as good as endless if there is none."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return ENDLESS
    paths = {controllers: path.lstrip("/") for _, controllers, path in lines}
    free = [ENDLESS]
    for controllers, files in _GROUP_FILES.items():
        folder = root / controllers / paths[controllers] if controllers in paths else None
        free += [_free_in_group(group, files) for group in (folder, *folder.parents)] if folder else []
    return max(0, min(free))


class _GroupFiles(NamedTuple):
    """Where a version of control groups says what it allows and what is used."""

    limit: str
    used: str
    reclaimable: str
    """In its statistics: cached files, which make room."""


_GROUP_FILES = {
    "": _GroupFiles("memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": _GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
}


def _free_in_group(group: Path, files: _GroupFiles) -> int:
    try:
        limit, used = (group / files.limit).read_text().strip(), (group / files.used).read_text()
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return ENDLESS
    return ENDLESS if limit == "max" else int(limit) - int(used) + int(statistics.get(files.reclaimable, 0))


def budget(free: int, device: torch.device) -> int:
    """Bytes of `free` that a plan may use."""
    return max(0, int(free * (1 - FRAGMENTATION)) - WORKSPACES.get(device.type, 0))
