"""Batches that take as much memory as any of a stage do, for what is to be measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from omnictl.trainer.stage import Batches


class Heaviest(NamedTuple):
    """Steps of nothing but the heaviest micro-batch."""

    batches: Batches
    micro_batch: int
    times: int = 1
    """In a step."""

    def ids(self, step: int) -> Sequence[int]:
        return [*self.batches.largest(self.micro_batch)] * self.times

    @property
    def typical_step(self) -> int:
        return 0

    def largest(self, size: int) -> Sequence[int]:
        return self.batches.largest(size)

    def collate(self, ids: Sequence[int]) -> Any:
        return self.batches.collate(ids)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        return self.batches.names(ids)
