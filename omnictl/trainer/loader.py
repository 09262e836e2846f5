"""Micro-batches for the loop, one after the other: made on the spot, or ahead of time by worker processes.

A batch is a pure function of its example ids, so how many workers there are changes nothing but the time it takes.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from omnictl.trainer.distributed.process_group import ALONE, ProcessGroup
from omnictl.trainer.stage import Batches

_START_METHOD = "fork" if sys.platform == "linux" else None
"""Forked workers share memory-mapped data and end when training is killed; of a fork server's, the default from Python 3.14 on,
neither is true."""


def micro_batches(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The ids of a batch in runs of `size`, the last one perhaps shorter."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


class Share:
    """A process's part of all batches, which is one of `Batches` itself; of what cannot be divided, the whole."""

    def __init__(self, batches: Batches, group: ProcessGroup, *, divisible: bool) -> None:
        self._batches, self._group = batches, group if divisible else ALONE

    def ids(self, step: int) -> Sequence[int]:
        """Its examples of a step (0-based)."""
        return self._group.share(self._batches.ids(step))

    def collate(self, ids: Sequence[int]) -> Any:
        """A micro-batch of these examples."""
        return self._batches.collate(ids)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each of these examples stands."""
        return self._batches.names(ids)

    @property
    def typical_step(self) -> int:
        """A step whose batch is as large as any."""
        return self._batches.typical_step

    def largest(self, size: int) -> Sequence[int]:
        """So many examples that take as much memory together as any do."""
        return self._batches.largest(size)


class Feed:
    """The micro-batches of all steps from `first_step` on."""

    def __init__(self, batches: Batches, *, micro_batch: int, first_step: int, workers: int) -> None:
        self._batches, self._micro_batch = batches, micro_batch
        ids = _all_ids(batches, micro_batch, first_step)
        self._iterator: Iterator[Any] = _by_workers(batches, ids, workers) if workers else map(batches.collate, ids)

    def step(self, step: int) -> Iterator[Any]:
        """The micro-batches of a step; steps are asked for in order."""
        for _ in micro_batches(self._batches.ids(step), self._micro_batch):
            yield next(self._iterator)

    def close(self) -> None:
        """End the workers. Without it they outlive an error, whose traceback holds their iterator, and block the exit."""
        if isinstance(self._iterator, _MultiProcessingDataLoaderIter):
            self._iterator._shutdown_workers()


def _all_ids(batches: Batches, micro_batch: int, first_step: int) -> Iterator[Sequence[int]]:
    for step in count(first_step):
        yield from micro_batches(batches.ids(step), micro_batch)


def _by_workers(batches: Batches, ids: Iterator[Sequence[int]], workers: int) -> Iterator[Any]:
    loader: DataLoader[Any] = DataLoader(
        _BatchDataset(batches),
        batch_size=None,
        sampler=_Ids(ids),
        num_workers=workers,
        multiprocessing_context=_START_METHOD,
        worker_init_fn=partial(_begin_worker, os.getpid()),
        generator=torch.Generator(),  # else it draws a seed for them from the generator whose state a resume brings back
    )
    return iter(loader)


def _begin_worker(training: int, _worker: int) -> None:
    """A signal to all processes of a run is for the one that trains: its last step still needs batches.

    A worker ends when its parent changes. If training was killed before it began to watch, it would wait for ever.
    """
    if os.getppid() != training:
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class _BatchDataset(Dataset[Any]):
    """Batches by the ids of their examples."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, ids: Sequence[int]) -> Any:
        return self._batches.collate(ids)


class _Ids:
    """An endless sampler."""

    def __init__(self, ids: Iterator[Sequence[int]]) -> None:
        self._ids = ids

    def __iter__(self) -> Iterator[Sequence[int]]:
        return self._ids
