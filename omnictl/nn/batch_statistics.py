"""Modules whose state follows statistics of the whole batch (expert loads, codebook usage) rather than a gradient."""

from collections.abc import Callable
from functools import cache
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class HasBatchStatistics(Protocol):
    """Gathers sums over micro-batches and takes them over once a step, so that accumulation stays exact."""

    def apply_batch_statistics(self) -> None:
        """Take over what was gathered since the last call, and forget it."""
        ...

    def share_batch_statistics(self, concatenate: Callable[[Tensor], Tensor]) -> None:
        """Exchange what was gathered with other processes.

        Args:
            concatenate: gives a tensor `(n, …)` of every process, one after the other.
        """
        ...

    def forget_batch_statistics(self) -> None:
        """Forget what was gathered since the last call."""
        ...


def statistics_modules(model: nn.Module) -> "list[HasBatchStatistics]":
    """The modules of `model` that gather statistics."""
    gathering = (module for module in model.modules() if _gathers_statistics(type(module)))  # type: ignore[arg-type]  # it can be hashed
    return [cast("HasBatchStatistics", module) for module in gathering]


@cache
def _gathers_statistics(kind: type[nn.Module]) -> bool:
    """Looked up once a class: to compare every module with a protocol takes milliseconds, each step."""
    return issubclass(kind, HasBatchStatistics)


def apply_batch_statistics(model: nn.Module) -> None:
    """Let every module of `model` that gathers statistics take them over."""
    for module in statistics_modules(model):
        module.apply_batch_statistics()


def forget_batch_statistics(model: nn.Module) -> None:
    """Let every module of `model` that gathers statistics forget them."""
    for module in statistics_modules(model):
        module.forget_batch_statistics()
