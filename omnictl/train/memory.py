"""How much of a batch goes through the model at a time, decided before the first step and written into the run.

The memory of a step is traced (`omnictl.train.tracing`), never extrapolated: over batch sizes it is only piecewise linear.
Of what is free, a share is left to what a trace does not see: fragmentation, workspaces of kernels, the process itself.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import torch

from omnictl.errors import OutOfMemory
from omnictl.nn.recompute import CHECKPOINTING, Checkpointing, set_checkpointing
from omnictl.train.config import TrainConfig
from omnictl.train.precision import Precision
from omnictl.train.stage import Batches, Stage
from omnictl.train.trial import try_out

if TYPE_CHECKING:
    from omnictl.train.tracing import Peak

FRAGMENTATION = 0.08
"""Share of the free memory that allocators leave lying between tensors."""

WORKSPACES = {"cpu": 256 * 2**20, "cuda": 512 * 2**20, "mps": 512 * 2**20}
"""Bytes that kernels take besides tensors: packed matrices, cuBLAS and cuDNN workspaces, threads' stacks."""


HEAP_GROWTH = 2
"""A heap that keeps freed blocks, which are of many sizes, has grown to 1.8 times what ever lived at a time (the Talker's)."""

ENDLESS = 2**63

_FIX = "close other programs, or choose a smaller model or shorter examples"


class MemoryPlan(NamedTuple):
    """What goes through the model at a time."""

    micro_batch: int
    checkpointing: Checkpointing
    peak_bytes: int | None
    """What a step of it takes beyond the loaded model, traced; None for a whole batch on request, or if it cannot be traced."""
    budget_bytes: int | None
    """What was there for it."""

    @property
    def is_tight(self) -> bool:
        """Whether a heap that keeps what is freed could outgrow what there is."""
        if self.peak_bytes is None or self.budget_bytes is None:
            return False
        return self.peak_bytes * HEAP_GROWTH > self.budget_bytes


def free_memory(device: torch.device) -> int:
    """Bytes that this process could still take: of the GPU, or of the machine and of its control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(psutil.virtual_memory().available, _left_in_control_group())


def _left_in_control_group(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes below the tightest limit of the process's control groups; as good as endless if there is none."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return ENDLESS
    paths = {controllers: path.lstrip("/") for _, controllers, path in lines}
    left = [ENDLESS]
    for controllers, files in _GROUP_FILES.items():
        folder = root / controllers / paths[controllers] if controllers in paths else None
        left += [_left(group, files) for group in (folder, *folder.parents)] if folder else []
    return max(0, min(left))


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


def _left(group: Path, files: _GroupFiles) -> int:
    try:
        limit, used = (group / files.limit).read_text().strip(), (group / files.used).read_text()
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return ENDLESS
    return ENDLESS if limit == "max" else int(limit) - int(used) + int(statistics.get(files.reclaimable, 0))


def budget(free: int, device: torch.device) -> int:
    """Bytes of `free` that a plan may use."""
    return max(0, int(free * (1 - FRAGMENTATION)) - WORKSPACES.get(device.type, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of a GPU, or of this machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def step_does_not_fit(size: int, where: str) -> OutOfMemory:
    """The error for a micro-batch that cannot be made smaller and ran out of memory."""
    examples = "one example" if size == 1 else f"{size} examples"
    return OutOfMemory(f"a step of {examples} does not fit", where=where, fix=_FIX)


def plan_memory(
    stage: Stage,
    batches: Batches,
    config: TrainConfig,
    *,
    share: int,
    free: int,
    optimizer: str,
    precision: Precision,
    device: torch.device,
    slices: int = 1,
) -> MemoryPlan:
    """The micro-batch and checkpointing that the config asks for, fit or not; where it says `auto`, the fastest that fits.

    Args:
        stage: what is trained.
        batches: its training batches.
        config: the training settings.
        share: examples of a step that this process takes.
        free: bytes that it could still take.
        optimizer: its kind.
        precision: the number format.
        device: where to compute.
        slices: in how many the layers' weights will be cut, which are then not on the device yet.

    Raises:
        OutOfMemory: not even one example at a time fits.
    """
    sizes, modes = candidates(stage, config, share)
    if config.micro_batch == "whole":
        return MemoryPlan(sizes[0], modes[0], None, None)

    from omnictl.train.tracing import Untraceable  # noqa: PLC0415  slow

    def peak(micro_batch: int, checkpointing: Checkpointing) -> int:
        found = step_peak(stage, batches, config, micro_batch, checkpointing, share=share, optimizer=optimizer, precision=precision)
        return found.total - found.lasting if slices == 1 else _in_slices(found, stage, slices)

    there = budget(free, device)
    if config.micro_batch != "auto":
        with suppress(Untraceable):
            return MemoryPlan(sizes[0], modes[0], peak(sizes[0], modes[0]), there)
        return MemoryPlan(sizes[0], modes[0], None, there)
    try:
        plan = fastest_that_fits(sizes, modes, there, peak)
    except Untraceable:  # the whole batch, if it goes through the rehearsal below
        plan = MemoryPlan(sizes[0], modes[0], None, None)
        set_checkpointing(stage.model, modes[0])
    if plan is None:
        least = peak(sizes[-1], modes[-1])
        raise OutOfMemory(
            f"a step of {sizes[-1]} of {share} examples takes {least / 2**20:,.0f} MiB, "
            f"{there / 2**20:,.0f} MiB are free for it on {device}",
            where="train.batch_size" if not stage.divisible else "model",
            fix=_FIX,
        )
    if slices > 1:  # a pass is one of all processes together
        return plan
    return confirmed(plan, sizes, lambda size: _rehearse(stage, batches, size, precision, device))


def _in_slices(peak: "Peak", stage: Stage, slices: int) -> int:
    """What a step takes of the device, weights included, where each process keeps a slice of the layers' weights."""
    from omnictl.train.sharding import share_in_layers  # noqa: PLC0415  slow

    parts = peak.parts
    sliced = share_in_layers(stage.model) * (parts["parameters"] + parts["gradients"] + parts["optimizer"])
    return peak.total - int(sliced * (1 - 1 / slices))


def candidates(stage: Stage, config: TrainConfig, share: int) -> tuple[Sequence[int], Sequence[Checkpointing]]:
    """Micro-batches and kinds of checkpointing to choose from, the fastest first; what the config fixes, alone."""
    if config.micro_batch != "auto":
        sizes = [share if config.micro_batch == "whole" else min(share, config.micro_batch)]
        return sizes, ("off",) if config.checkpointing == "auto" else (config.checkpointing,)
    sizes = micro_batches(share) if stage.divisible else [share]
    return sizes, CHECKPOINTING if config.checkpointing == "auto" else (config.checkpointing,)


def step_peak(
    stage: Stage,
    batches: Batches,
    config: TrainConfig,
    micro_batch: int,
    checkpointing: Checkpointing,
    *,
    share: int,
    optimizer: str,
    precision: Precision,
) -> "Peak":
    """The traced peak of a step whose largest micro-batch goes through the model; `checkpointing` stays set.

    Raises:
        Untraceable: shapes depend on what the model computes.
    """
    from omnictl.train.tracing import traced_peak  # noqa: PLC0415  slow

    set_checkpointing(stage.model, checkpointing)
    return traced_peak(
        stage,
        batches.collate(batches.largest(micro_batch)),
        config,
        optimizer=optimizer,
        precision=precision,
        accumulates=micro_batch < share,
    )


def confirmed(plan: MemoryPlan, sizes: Sequence[int], rehearse: Callable[[int], None]) -> MemoryPlan:
    """A plan whose largest micro-batch really went through, the next smaller one until it does.

    Raises:
        OutOfMemory: not even the smallest of `sizes` does.
    """
    for size in sizes[sizes.index(plan.micro_batch) :]:
        try:
            rehearse(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        return plan._replace(micro_batch=size)
    raise step_does_not_fit(sizes[-1], where="model")


def micro_batches(batch_size: int) -> list[int]:
    """Sizes to choose from, largest first: the batch in 1, 2, 4, … equal parts."""
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def fastest_that_fits(
    sizes: Sequence[int], modes: Sequence[Checkpointing], there: int, peak: Callable[[int, Checkpointing], int]
) -> MemoryPlan | None:
    """The largest part of the batch that fits without recomputing anything; if none does, that with the least recomputation.

    Recomputing costs a third of a step, smaller micro-batches next to nothing as long as they keep the device busy.

    Args:
        sizes: micro-batches, largest first.
        modes: kinds of checkpointing, fastest first.
        there: bytes that may be used.
        peak: bytes that a micro-batch takes; never less for a larger one.
    """
    for mode in modes:
        low, high = 0, len(sizes)  # sizes[high:] fit, sizes[:low] do not
        found: dict[int, int] = {}
        while low < high:
            middle = (low + high) // 2 if low else 0  # more often than not, everything fits
            found[middle] = peak(sizes[middle], mode)
            low, high = (low, middle) if found[middle] <= there else (middle + 1, high)
        if low < len(sizes):
            return MemoryPlan(sizes[low], mode, found[low], there)
    return None


def _rehearse(stage: Stage, batches: Batches, size: int, precision: Precision, device: torch.device) -> None:
    """Forward and backward pass of the largest micro-batch, which leave no trace."""
    stage.model.train()
    with torch.random.fork_rng():
        try_out(stage, batches.collate(batches.largest(size)), precision, device)
