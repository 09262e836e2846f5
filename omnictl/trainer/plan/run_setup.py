"""What is settled before the first step of a run: the optimizer, the number format, and how a step fits into memory.

A run that is resumed goes on with what its record holds of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from omnictl.errors import ConfigError
from omnictl.nn.recompute import set_checkpointing
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.hardware.device import return_freed_memory
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import Share
from omnictl.trainer.optim.optimizers import Optimizers, choose_optimizer
from omnictl.trainer.plan.dry_run import precision_for
from omnictl.trainer.plan.free_memory import free_memory
from omnictl.trainer.plan.micro_batch import MemoryPlan, Steps, confirm_plan, plan_memory
from omnictl.trainer.stage import Batches, Stage


@dataclass(frozen=True)
class RunSetup:
    """How a stage is trained on a device, by all processes of a group alike."""

    stage: Stage
    config: TrainConfig
    device: torch.device
    group: ProcessGroup
    batches: Share
    """Of each batch what this process takes."""
    optimizer: str
    precision: Precision
    memory: MemoryPlan

    @property
    def sliced(self) -> bool:
        """Whether each process keeps a slice of the weights."""
        return _is_sliced(self.config, self.group)

    def as_record(self) -> dict[str, object]:
        """As the run's record holds it."""
        return {"precision": list(self.precision), "optimizer": self.optimizer, "memory": self.memory._asdict()}

    def choose_precision(self) -> Precision:
        """The number format in which steps take the least time now."""
        return self.group.first(lambda: precision_for(self.stage, self.batches, self.config, self.optimizer, self.device))

    def apply(self) -> Optimizers:
        """Make the model ready for its steps; returns what takes them."""
        set_checkpointing(self.stage.model, self.memory.checkpointing)
        _spare_memory(self.memory, self.device)
        if self.sliced:
            from omnictl.trainer.distributed.sharding import shard  # noqa: PLC0415  slow

            shard(self.stage, self.config, self.precision, self.device, self.group)
        return Optimizers(self.stage.model, self.config, self.optimizer, self.precision.optimizer_dtype)


def check_divisible(batch_size: int, group: ProcessGroup) -> None:
    """Refuse a batch with fewer examples than there are processes, before these exchange anything.

    Raises:
        ConfigError: it has fewer.
    """
    if batch_size < group.size:
        raise ConfigError(
            f"a batch of {batch_size} examples cannot be shared among {group.size} processes",
            where="train.batch_size",
            fix=f"start at most {batch_size} processes, or use --set train.batch_size={group.size} or more",
        )


def settle(stage: Stage, config: TrainConfig, record: Mapping[str, Any], *, device: torch.device, group: ProcessGroup) -> RunSetup:
    """Take what a run's record holds; choose, measure and plan what it does not.

    The model is moved to the device, unless a slice of it may fit where the whole does not.

    Raises:
        OutOfMemory: a step does not fit.
    """
    if config.runtime.deterministic:
        torch.use_deterministic_algorithms(mode=True)
    sliced = _is_sliced(config, group)
    if not sliced:
        stage.model.to(device)
    whole = stage.batches()
    kind = record.get("optimizer") or ("adamw" if sliced else choose_optimizer(config, stage.model, _flops(stage, whole)))
    batches = Share(whole, group, divisible=stage.divisible)
    precision = (
        Precision(*record["precision"])
        if "precision" in record
        else group.first(lambda: precision_for(stage, batches, config, kind, device))
    )
    steps = Steps(stage, batches, config, kind, precision)
    memory = MemoryPlan(**record["memory"]) if "memory" in record else group.first(lambda: _plan_memory(steps, device, group))
    return RunSetup(stage, config, device, group, batches, kind, precision, memory)


def _plan_memory(steps: Steps, device: torch.device, group: ProcessGroup) -> MemoryPlan:
    free = free_memory(device) // (1 if device.type == "cuda" else group.local_size)
    if _is_sliced(steps.config, group):  # a pass is one of all processes together, so that none can be tried out here
        return plan_memory(steps, free=free, device=device, slices=group.size)
    plan = plan_memory(steps, free=free, device=device)
    _spare_memory(plan, device)
    return confirm_plan(plan, steps, device)


def _spare_memory(plan: MemoryPlan, device: torch.device) -> None:
    if plan.is_tight and device.type == "cpu":
        return_freed_memory()


def _is_sliced(config: TrainConfig, group: ProcessGroup) -> bool:
    return config.sharding == "fsdp" and group.size > 1


def _flops(stage: Stage, batches: Batches) -> float:
    """Work of the first step's whole batch, which decides whether Muon is worth its price."""
    return stage.work(batches.collate(batches.ids(batches.typical_step))).flops
