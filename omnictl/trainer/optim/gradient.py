"""The gradient of a whole batch from its micro-batches.

Gradients of *sums* are added up and divided once by the number of targets of the whole batch, so any split into micro-batches
and processes gives the same gradient; averaging means over unequal micro-batches would not.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from omnictl.trainer.distributed.dtensor import by_kind, is_slice, whole
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.optim.lanes import Lanes
from omnictl.trainer.stage import NO_WORK, LossSum, Stage, Work


@dataclass
class GradientSums:
    """Sums over the micro-batches of one batch."""

    total: Tensor  # () float64
    count: int = 0
    scalars: dict[str, Tensor] = field(default_factory=dict)
    work: Work = NO_WORK
    data_seconds: float = 0.0

    def add(self, loss: LossSum, work: Work) -> None:
        """Take in one micro-batch."""
        self.total += loss.sum.detach()
        self.count += loss.count
        for name, value in loss.scalars.items():
            self.scalars[name] = self.scalars.get(name, torch.zeros_like(value)) + value
        self.work = self.work.plus(work)

    @property
    def loss(self) -> float:
        """Mean over the batch."""
        return float(self.total) / max(self.count, 1)

    def scalar_means(self) -> dict[str, float]:
        """The further sums as means over the batch."""
        return {name: float(value) / max(self.count, 1) for name, value in self.scalars.items()}


def accumulate(
    stage: Stage, micro_batches: Iterable[Any], *, precision: Precision, scaler: torch.amp.GradScaler, lanes: Lanes | None = None
) -> GradientSums:
    """Add the (scaled) gradient of the loss summed over all micro-batches to the parameters' `.grad`.

    Args:
        stage: what is trained.
        micro_batches: of one step.
        precision: number formats of the products.
        scaler: of the loss.
        lanes: so many micro-batches pass at the same time; their gradients are added in order, so that sums never differ.
    """
    lanes = lanes or Lanes()
    device = next(stage.model.parameters()).device
    sums = GradientSums(torch.zeros((), dtype=torch.float64, device=device))
    began, remaining = time.perf_counter(), iter(micro_batches)
    while some := list(islice(remaining, lanes.number)):
        sums.data_seconds += time.perf_counter() - began
        if lanes.number == 1:
            loss = forward(stage, some[0], precision, device)
            if loss.sum.requires_grad:  # of text alone, projectors have nothing to learn
                torch.autograd.backward(scaler.scale(loss.sum))
            sums.add(loss, stage.work(some[0]))
        else:
            for loss, work, gradients in lanes.map(partial(differentiate, stage, precision, scaler, device), some):
                sums.add(loss, work)
                add_gradients(gradients)
        began = time.perf_counter()
    return sums


def forward(stage: Stage, batch: Any, precision: Precision, device: torch.device) -> LossSum:
    """The loss of a micro-batch."""
    with precision.autocast(device):
        return stage.loss(batch)


Gradients = Sequence[tuple[nn.Parameter, Tensor | None]]
"""Of each parameter that learns; None if the loss does not depend on it."""


class Pass(NamedTuple):
    """What came of one micro-batch; nothing is in the parameters' `.grad` yet."""

    loss: LossSum
    work: Work
    gradients: Gradients


def differentiate(stage: Stage, precision: Precision, scaler: torch.amp.GradScaler, device: torch.device, batch: Any) -> Pass:
    """Forward and backward pass of a micro-batch beside others."""
    loss = forward(stage, batch, precision, device)
    gradients = gradients_of(stage, scaler.scale(loss.sum))
    return Pass(replace(loss, sum=loss.sum.detach()), stage.work(batch), gradients)


def gradients_of(stage: Stage, loss: Tensor) -> Gradients:
    """The gradient of all that learns, in no parameter's `.grad` yet."""
    parameters = [parameter for parameter in stage.model.parameters() if parameter.requires_grad]
    if not loss.requires_grad:
        return [(parameter, None) for parameter in parameters]
    return list(zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def add_gradients(gradients: Gradients) -> None:
    """Add to the parameters' `.grad`, whose numbers lie in memory as the parameter's do, whatever the gradients' order.

    `torch.autograd.grad` gives channels-last convolutions gradients of that order, and fused AdamW (torch 2.14, on a CPU) reads
    gradients in the order of the parameter, whatever theirs is.
    """
    for parameter, gradient in gradients:
        if gradient is None:
            continue
        if parameter.grad is not None:
            parameter.grad.add_(gradient)
        elif gradient.stride() == parameter.stride():
            parameter.grad = gradient
        else:
            parameter.grad = torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def sum_over_processes(sums: GradientSums, model: nn.Module, group: ProcessGroup) -> GradientSums:
    """Sums and gradients over all processes, each of which has accumulated its share of the batch.

    A parameter gets a gradient if it has one in any process; one that the batch does not use stays without, everywhere.
    """
    if group.size == 1:
        return sums
    parameters = [p for p in model.parameters() if p.requires_grad and not is_slice(p)]  # of slices, it is done
    own_sums = (float(sums.total), sums.count, {name: float(value) for name, value in sums.scalars.items()}, sums.work)
    shares = group.gather((own_sums, [parameter.grad is not None for parameter in parameters]))
    used = [any(flags) for flags in zip(*(flags for _, flags in shares), strict=True)]
    gradients = []
    for parameter in compress(parameters, used):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    group.sum_(gradients)
    all_sums = GradientSums(torch.zeros_like(sums.total), data_seconds=sums.data_seconds)
    for (total, count, scalars, work), _ in shares:
        tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in scalars.items()}
        all_sums.add(LossSum(torch.tensor(total, dtype=torch.float64), count, tensors), work)
    return all_sums


def normalise(parameters: Sequence[nn.Parameter], count: int, clip_norm: float) -> float:
    """Divide gradients of a sum by its count, then clip them; returns their norm before clipping."""
    kinds = by_kind([p for p in parameters if p.grad is not None])
    norms = []
    for kind in kinds:
        gradients = [p.grad for p in kind if p.grad is not None]
        torch._foreach_mul_(gradients, 1.0 / max(count, 1))  # nothing was counted: the gradients are zero
        norms.append(whole(nn.utils.get_total_norm(gradients)))
    norm = norms[0] if len(norms) == 1 else nn.utils.get_total_norm(norms)
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, clip_norm, norm)
    return float(norm)
