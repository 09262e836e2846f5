"""The gradient of a whole batch from its micro-batches.

Gradients of *sums* are added up and divided once by the number of targets of the whole batch, so any split into micro-batches
gives the same gradient; averaging means over unequal micro-batches would not.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from omnictl.train.precision import Precision
from omnictl.train.stage import Batches, LossSum, Stage


@dataclass
class Accumulated:
    """Sums over the micro-batches of one batch."""

    total: Tensor  # () float64
    count: int = 0
    scalars: dict[str, Tensor] = field(default_factory=dict)
    units: float = 0.0
    flops: float = 0.0
    data_seconds: float = 0.0

    def add(self, loss: LossSum) -> None:
        """Take in one micro-batch's loss."""
        self.total += loss.sum.detach()
        self.count += loss.count
        for name, value in loss.scalars.items():
            self.scalars[name] = self.scalars.get(name, torch.zeros_like(value)) + value

    @property
    def loss(self) -> float:
        """Mean over the batch."""
        return float(self.total) / self.count

    def scalar_means(self) -> dict[str, float]:
        """The further sums as means over the batch."""
        return {name: float(value) / self.count for name, value in self.scalars.items()}


def accumulate(
    stage: Stage,
    batches: Batches,
    ids: Sequence[int],
    *,
    micro_batch: int,
    precision: Precision,
    scaler: torch.amp.GradScaler,
) -> Accumulated:
    """Add the (scaled) gradient of the summed loss over all examples of `ids` to the parameters' `.grad`."""
    device = next(stage.model.parameters()).device
    sums = Accumulated(torch.zeros((), dtype=torch.float64, device=device))
    for start in range(0, len(ids), micro_batch):
        began = time.perf_counter()
        batch = batches.collate(ids[start : start + micro_batch])
        sums.data_seconds += time.perf_counter() - began
        with precision.autocast(device):
            loss = stage.loss(batch)
        torch.autograd.backward(scaler.scale(loss.sum))
        sums.add(loss)
        units, flops = stage.work(batch)
        sums.units += units
        sums.flops += flops
    return sums


def normalise(parameters: Sequence[nn.Parameter], count: int, clip_norm: float) -> float:
    """Divide gradients of a sum by its count, then clip them; returns their norm before clipping."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    torch._foreach_mul_(gradients, 1.0 / count)
    return float(nn.utils.clip_grad_norm_(parameters, clip_norm))
