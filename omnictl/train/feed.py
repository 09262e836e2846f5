"""Micro-batches for the loop, one after the other: made on the spot, or ahead of time by worker processes.

A batch is a pure function of its example ids, so how many workers there are changes nothing but the time it takes.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from torch.utils.data import DataLoader, Dataset

from omnictl.train.stage import Batches


def micro_batches(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The ids of a batch in runs of `size`, the last one perhaps shorter."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


class Feed:
    """The micro-batches of all steps from `first_step` on."""

    def __init__(self, batches: Batches, *, micro_batch: int, first_step: int, workers: int) -> None:
        self._batches, self._micro_batch, self._first_step = batches, micro_batch, first_step
        self._made = self._by_workers(workers) if workers else map(batches.collate, self._all_ids())

    def step(self, step: int) -> Iterator[Any]:
        """The micro-batches of a step; steps are asked for in order."""
        for _ in micro_batches(self._batches.ids(step), self._micro_batch):
            yield next(self._made)

    def _all_ids(self) -> Iterator[Sequence[int]]:
        for step in count(self._first_step):
            yield from micro_batches(self._batches.ids(step), self._micro_batch)

    def _by_workers(self, workers: int) -> Iterator[Any]:
        return iter(DataLoader(_Collated(self._batches), batch_size=None, sampler=_Ids(self._all_ids()), num_workers=workers))


class _Collated(Dataset[Any]):
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
