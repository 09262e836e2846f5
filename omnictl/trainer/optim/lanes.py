"""Threads that share the passes of a step on a CPU.

The products of a small model are too small for all threads of a CPU: at the end of each the threads wait for the slowest, and where
another program takes a core they wait for that program. Two lanes, with half of the threads each, pass two micro-batches at a time
and wait for one another once a step. Source: data parallelism within a process (Li et al. 2020, arXiv 2006.15704, section 2).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import nn

from omnictl.nn.batch_statistics import statistics_modules
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.stage import Stage

T = TypeVar("T")
R = TypeVar("R")


class Lanes:
    """Threads that each work on one item at a time.

    Args:
        number: of lanes. With one, everything runs in the calling thread.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(number) if number > 1 else None

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The function's results, in the order of the items.

        Raises:
            Exception: what the function raised for the first of the items that failed, once no lane works any more.
        """
        if self._pool is None:
            return [function(item) for item in items]

        def work(item: T) -> R:
            torch.set_num_threads(max(1, self._threads // self.number))
            return function(item)

        futures = [self._pool.submit(work, item) for item in items]
        wait(futures)
        torch.set_num_threads(self._threads)  # some libraries keep one number for all threads
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def can_share_steps(stage: Stage, config: TrainConfig, device: torch.device) -> bool:
    """Whether the passes of a step may run at the same time: on a CPU, if they neither draw random numbers nor gather statistics,
    which would depend on which comes first."""
    draws = any(isinstance(module, nn.Dropout) and module.p > 0 for module in stage.model.modules())
    return (
        device.type == "cpu"
        and torch.get_num_threads() > 1
        and stage.divisible
        and not draws
        and not statistics_modules(stage.model)
        and not config.runtime.compile
    )
