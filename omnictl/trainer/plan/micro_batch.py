"""How much of a batch goes through the model at a time, decided before the first step and written into the run.

The memory of a step is traced (`trainer/plan/memory_trace.py`), never extrapolated: over batch sizes it is only piecewise linear.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from omnictl.errors import OutOfMemory
from omnictl.nn.recompute import CHECKPOINTING, Checkpointing, set_checkpointing
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.hardware.device import wait_for
from omnictl.trainer.hardware.precision import Precision, best_seconds
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate
from omnictl.trainer.optim.lanes import Lanes, can_share_steps
from omnictl.trainer.plan.dry_run import try_out, without_trace
from omnictl.trainer.plan.free_memory import budget
from omnictl.trainer.stage import Batches, Stage

if TYPE_CHECKING:
    from omnictl.trainer.plan.memory_trace import Peak

HEAP_GROWTH = 2
"""A heap that keeps freed blocks, which are of many sizes, has grown to 1.8 times what ever lived at a time (the Talker's)."""

FASTER = 1.05
"""So many times as fast must a smaller micro-batch be: less is within what measurements differ by."""

LANES = 2
"""Micro-batches that may pass at the same time; each added lane costs as much in Python's one interpreter as it wins."""

SHORT_BATCH = 0.05
"""Seconds of a batch below which it is not divided between lanes: starting and ending them is not worth it."""

TURNS = 2
"""That two micro-batches take in being timed, so that a machine that is busy for a moment does not decide for a whole run."""

LONG_BATCH = 10.0
"""Seconds of a batch from which on its parts are not timed: it keeps any device busy, and timing would take minutes."""

_FIX = "close other programs, or choose a smaller model or shorter examples"


class MemoryPlan(NamedTuple):
    """The micro-batch and the checkpointing of a training, and the memory that they take."""

    micro_batch: int
    checkpointing: Checkpointing
    peak_bytes: int | None
    """What a step of it takes beyond the loaded model, traced; None for a whole batch on request, or if it cannot be traced."""
    budget_bytes: int | None
    """The memory that was free for it."""
    evaluation_bytes: int | None = None
    """What an evaluation takes beyond the loaded model, traced; None as above."""
    lanes: int = 1
    """How many micro-batches pass at the same time (`trainer/optim/lanes.py`)."""

    @property
    def is_tight(self) -> bool:
        """Whether a heap that keeps what is freed could outgrow what there is."""
        if self.peak_bytes is None or self.budget_bytes is None:
            return False
        return max(self.peak_bytes, self.evaluation_bytes or 0) * HEAP_GROWTH > self.budget_bytes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of a GPU, or of this machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def step_does_not_fit(size: int, where: str) -> OutOfMemory:
    """The error for a micro-batch that cannot be made smaller and ran out of memory."""
    examples = "one example" if size == 1 else f"{size} examples"
    return OutOfMemory(f"a step of {examples} does not fit", where=where, fix=_FIX)


@dataclass(frozen=True)
class Steps:
    """The steps that a process could take, which differ in how much goes through the model at a time."""

    stage: Stage
    batches: Batches
    """Its share of them, if there are more processes."""
    config: TrainConfig
    optimizer: str
    precision: Precision

    @property
    def share(self) -> int:
        """Examples of a step."""
        return len(self.batches.ids(self.batches.typical_step))

    def candidates(self) -> tuple[Sequence[int], Sequence[Checkpointing]]:
        """Micro-batches and kinds of checkpointing to choose from, the fastest first; what the config fixes, alone."""
        config = self.config
        if config.micro_batch != "auto":
            sizes = [self.share if config.micro_batch == "whole" else min(self.share, config.micro_batch)]
            return sizes, ("off",) if config.checkpointing == "auto" else (config.checkpointing,)
        sizes = halves(self.share) if self.stage.divisible else [self.share]
        return sizes, CHECKPOINTING if config.checkpointing == "auto" else (config.checkpointing,)

    def peak(self, micro_batch: int, checkpointing: Checkpointing) -> "Peak":
        """The traced peak of a step whose largest micro-batch goes through the model; `checkpointing` stays set.

        Raises:
            Untraceable: shapes depend on what the model computes.
        """
        from omnictl.trainer.plan.memory_trace import trace_step  # noqa: PLC0415  slow

        set_checkpointing(self.stage.model, checkpointing)
        return trace_step(
            self.stage,
            self.batches.collate(self.batches.largest(micro_batch)),
            self.config,
            optimizer=self.optimizer,
            precision=self.precision,
            accumulates=micro_batch < self.share,
        )

    def evaluation(self) -> "Peak":
        """The traced peak of the evaluation between two steps. Raises as `peak`."""
        from omnictl.trainer.plan.memory_trace import trace_passes  # noqa: PLC0415  slow

        passes = self.stage.heaviest_passes(self.batches)
        return trace_passes(self.stage, passes, self.config, optimizer=self.optimizer, precision=self.precision)

    def rehearse(self, device: torch.device, micro_batch: int) -> None:
        """Forward and backward pass of the largest micro-batch, which leave no trace."""
        self._pass(device, [self.batches.largest(micro_batch)])

    def seconds(self, device: torch.device, micro_batch: int, *, lanes: int = 1) -> float:
        """What the passes of the first batch take in parts of this size, so many at a time; the second time, if that is soon, as
        the first finds a heap that other sizes have left."""
        parts = list(micro_batches(self.batches.ids(self.batches.typical_step), micro_batch))
        run = partial(self._pass, device, parts) if lanes == 1 else partial(self._pass_together, device, parts, lanes)
        first = best_seconds(run, rounds=1)
        return first if first > LONG_BATCH else best_seconds(run, rounds=1)

    def _pass_together(self, device: torch.device, parts: Sequence[Sequence[int]], lanes: int) -> None:
        self.stage.model.train()
        threads, scaler = Lanes(lanes), self.precision.scaler(device)
        with without_trace(self.stage.model):
            accumulate(self.stage, map(self.batches.collate, parts), precision=self.precision, scaler=scaler, lanes=threads)
        threads.close()

    def _pass(self, device: torch.device, parts: Sequence[Sequence[int]]) -> None:
        self.stage.model.train()
        with torch.random.fork_rng():
            for ids in parts:
                try_out(self.stage, self.batches.collate(ids), self.precision, device)
        wait_for(device)


def plan_memory(steps: Steps, *, free: int, device: torch.device, slices: int = 1) -> MemoryPlan:
    """The micro-batch and checkpointing that the config asks for, fit or not; where it says `auto`, the largest that fits.

    Args:
        steps: to choose from.
        free: bytes that this process could still take.
        device: where to compute.
        slices: in how many the layers' weights will be cut, which are then not on the device yet.

    Raises:
        OutOfMemory: not even one example at a time fits, or the evaluation does not.
    """
    sizes, modes = steps.candidates()
    if steps.config.micro_batch == "whole":
        return MemoryPlan(sizes[0], modes[0], None, None)

    from omnictl.trainer.plan.memory_trace import Untraceable  # noqa: PLC0415  slow

    try:
        return _trace_plan(steps, budget(free, device), device, slices)
    except Untraceable:  # the whole batch, if it goes through a rehearsal
        return MemoryPlan(sizes[0], modes[0], None, None)


def confirm_plan(plan: MemoryPlan, steps: Steps, device: torch.device) -> MemoryPlan:
    """A plan that really went through, with the micro-batch that is fastest here; what the config fixes, as it is.

    Raises:
        OutOfMemory: not even one example at a time goes through.
    """
    if steps.config.micro_batch != "auto":
        return plan
    sizes, _ = steps.candidates()
    set_checkpointing(steps.stage.model, plan.checkpointing)
    plan = confirm_micro_batch(plan, sizes, partial(steps.rehearse, device))
    if steps.config.runtime.deterministic:
        return plan
    size = fastest_micro_batch(sizes[sizes.index(plan.micro_batch) :], partial(steps.seconds, device))
    if size != plan.micro_batch:
        peak = None if plan.peak_bytes is None else steps.peak(size, plan.checkpointing).extra_bytes
        plan = plan._replace(micro_batch=size, peak_bytes=peak)
    return _choose_lanes(plan, steps, device)


def _choose_lanes(plan: MemoryPlan, steps: Steps, device: torch.device) -> MemoryPlan:
    """The same examples in micro-batches of half the size, two at a time, if that is faster here; memory stays the same."""
    if plan.micro_batch == 1 or not can_share_steps(steps.stage, steps.config, device):
        return plan
    half = -(-plan.micro_batch // LANES)
    if steps.seconds(device, plan.micro_batch) < SHORT_BATCH:
        return plan
    turns = [(steps.seconds(device, plan.micro_batch), steps.seconds(device, half, lanes=LANES)) for _ in range(TURNS)]
    alone, together = map(min, zip(*turns, strict=True))
    return plan._replace(micro_batch=half, lanes=LANES) if together * FASTER <= alone else plan


def _trace_plan(steps: Steps, room: int, device: torch.device, slices: int) -> MemoryPlan:
    """The fastest of the candidates that fits into `room` bytes; what the config fixes, fit or not.

    Raises:
        OutOfMemory: none fits, or the evaluation does not.
        Untraceable: shapes depend on what the model computes.
    """

    def peak(micro_batch: int, checkpointing: Checkpointing) -> int:
        step = steps.peak(micro_batch, checkpointing)
        return step.extra_bytes if slices == 1 else _in_slices(step, steps.stage, slices)

    sizes, modes = steps.candidates()
    evaluation = steps.evaluation().extra_bytes
    if steps.config.micro_batch != "auto":
        return MemoryPlan(sizes[0], modes[0], peak(sizes[0], modes[0]), room, evaluation)
    plan = fastest_that_fits(sizes, modes, room, peak)
    if plan is None:
        name, least = f"a step of {sizes[-1]} of {steps.share} examples", peak(sizes[-1], modes[-1])
    else:
        name, least = "the evaluation between steps", evaluation
    if least > room:
        raise OutOfMemory(
            f"{name} takes {least / 2**20:,.0f} MiB, {room / 2**20:,.0f} MiB are free for it on {device}",
            where="model" if steps.stage.divisible else "train.batch_size",
            fix=_FIX,
        )
    assert plan is not None
    return plan._replace(evaluation_bytes=evaluation)


def _in_slices(peak: "Peak", stage: Stage, slices: int) -> int:
    """What a step takes of the device, weights included, where each process keeps a slice of the layers' weights."""
    from omnictl.trainer.distributed.sharding import share_in_layers  # noqa: PLC0415  slow

    parts = peak.parts
    sliced = share_in_layers(stage.model) * (parts["parameters"] + parts["gradients"] + parts["optimizer"])
    return peak.total - int(sliced * (1 - 1 / slices))


def halves(batch_size: int) -> list[int]:
    """Micro-batches to choose from, largest first: the batch in 1, 2, 4, … equal parts."""
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def fastest_that_fits(
    sizes: Sequence[int], modes: Sequence[Checkpointing], room: int, peak: Callable[[int, Checkpointing], int]
) -> MemoryPlan | None:
    """The largest part of the batch that fits without recomputing anything; if none does, that with the least recomputation.

    Recomputing costs a third of a step, smaller micro-batches next to nothing as long as they keep the device busy.

    Args:
        sizes: micro-batches, largest first.
        modes: kinds of checkpointing, fastest first.
        room: bytes that may be used.
        peak: bytes that a micro-batch takes; never less for a larger one.
    """
    for mode in modes:
        low, high = 0, len(sizes)  # sizes[high:] fit, sizes[:low] do not
        peaks: dict[int, int] = {}
        while low < high:
            middle = (low + high) // 2 if low else 0  # more often than not, everything fits
            peaks[middle] = peak(sizes[middle], mode)
            low, high = (low, middle) if peaks[middle] <= room else (middle + 1, high)
        if low < len(sizes):
            return MemoryPlan(sizes[low], mode, peaks[low], room)
    return None


def confirm_micro_batch(plan: MemoryPlan, sizes: Sequence[int], rehearse: Callable[[int], None]) -> MemoryPlan:
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


def fastest_micro_batch(sizes: Sequence[int], seconds: Callable[[int], float]) -> int:
    """The micro-batch to go on with: smaller ones pad less and stay in caches, larger ones keep more of a device busy.

    Args:
        sizes: that fit, largest first; the next smaller one is timed as long as that was clearly worth it.
        seconds: what a batch takes in parts of a size.
    """
    chosen = sizes[0]
    if seconds(chosen) > LONG_BATCH:
        return chosen
    for size in sizes[1:]:
        turns = [(seconds(chosen), seconds(size)) for _ in range(TURNS)]
        larger, smaller = map(min, zip(*turns, strict=True))
        if smaller * FASTER > larger:
            break
        chosen = size
    return chosen
