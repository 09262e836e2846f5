"""Passes that leave no trace: on them number formats are timed and memory plans are confirmed."""

from functools import partial
from typing import Any

import torch

from omnictl.nn.statistics import forget_batch_statistics
from omnictl.train.precision import Precision, choose_precision
from omnictl.train.stage import Batches, Stage

TRIAL_EXAMPLES = 32
"""Examples of the first batch on which number formats are timed."""


def try_out(stage: Stage, batch: Any, precision: Precision, device: torch.device) -> None:
    """A forward and backward pass after which weights have no gradients, and learn or stand still as they did before."""
    learns = [(parameter, parameter.requires_grad) for parameter in stage.model.parameters()]
    with precision.autocast(device):
        loss = stage.loss(batch)
    torch.autograd.backward(loss.sum)
    stage.model.zero_grad(set_to_none=True)
    forget_batch_statistics(stage.model)
    for parameter, did in learns:  # a loss may keep some still for its batch
        parameter.requires_grad = did


def precision_for(
    stage: Stage, batches: Batches, requested: str, device: torch.device, *, examples: int = TRIAL_EXAMPLES
) -> Precision:
    """The number format that was asked for; with `auto`, on a CPU, the one that is faster here. Raises as `choose_precision`."""
    batch = batches.collate(batches.ids(0)[:examples])
    stage.model.eval()  # no dropout, no statistics
    return choose_precision(requested, device, partial(_try_format, stage, batch, device))


def _try_format(stage: Stage, batch: Any, device: torch.device, precision: Precision) -> None:
    try_out(stage, batch, precision, device)
