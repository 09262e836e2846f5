"""Modules whose state follows statistics of the whole batch (expert loads, codebook usage) rather than a gradient."""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class HasBatchStatistics(Protocol):
    """Gathers sums over micro-batches and takes them over once a step, so that accumulation stays exact."""

    def apply_batch_statistics(self) -> None:
        """Take over what was gathered since the last call, and forget it."""
        ...

    def forget_batch_statistics(self) -> None:
        """Forget what was gathered since the last call."""
        ...


def apply_batch_statistics(model: nn.Module) -> None:
    """Let every module of `model` that gathers statistics take them over."""
    for module in model.modules():
        if isinstance(module, HasBatchStatistics):
            module.apply_batch_statistics()


def forget_batch_statistics(model: nn.Module) -> None:
    """Let every module of `model` that gathers statistics forget them."""
    for module in model.modules():
        if isinstance(module, HasBatchStatistics):
            module.forget_batch_statistics()
