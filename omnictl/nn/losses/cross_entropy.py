"""Cross-entropy of a tied output head without ever holding all logits.

The rows are taken in chunks, and each chunk's gradient is computed while its logits are at hand: softmax − one-hot needs nothing
from later layers (Hsu et al. 2024, Liger Kernel). The peak is one chunk of logits instead of `(N, V)`, and none is computed twice.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from omnictl.nn.arithmetic import at_least_fp32
from omnictl.nn.losses.ignore_index import IGNORE as IGNORE  # noqa: PLC0414  others take it from here

MAX_LOGITS = 1 << 22
"""Logits held at a time: 16 MiB in fp32."""


class RowScores(NamedTuple):
    """How a model rates given targets."""

    nats: Tensor  # (N,) negative log-probability of each target
    is_likeliest: Tensor  # (N,) bool


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats over all scored targets, a scalar in fp32 at least.

    Args:
        hidden: `(N, D)` final hidden states.
        weight: `(V, D)` output head.
        targets: `(N,)` int64, `IGNORE` where nothing is scored.
    """
    nats: Tensor = _CrossEntropySum.apply(hidden, weight, targets)
    return nats


def score_rows(hidden: Tensor, weight: Tensor, targets: Tensor) -> RowScores:
    """Rate `(N,)` targets one by one, for evaluation; shapes as in `cross_entropy_sum`, no target ignored."""
    nats, likeliest = [], []
    for h, t in _chunks(hidden, targets, weight):
        logits = F.linear(h, weight)
        nats.append(F.cross_entropy(logits.to(at_least_fp32(logits.dtype)), t, reduction="none"))
        likeliest.append(logits.argmax(-1) == t)
    return RowScores(torch.cat(nats), torch.cat(likeliest))


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32, device=hidden.device)
        hidden_gradients: list[Tensor] = []
        weight_gradient = torch.zeros_like(weight, dtype=at_least_fp32(weight.dtype))
        for h, t in _chunks(hidden, targets, weight):
            logits = F.linear(h, weight)
            log_probs = F.log_softmax(logits.to(at_least_fp32(logits.dtype)), -1)  # (rows, V); a large vocabulary needs fp32
            total += F.nll_loss(log_probs, t, ignore_index=IGNORE, reduction="sum")
            if not any(ctx.needs_input_grad):
                continue
            error = log_probs.exp_()
            rows = torch.arange(len(t), device=t.device)
            error[rows, t.clamp(min=0)] -= 1
            error = error.mul_((t != IGNORE).to(error.dtype)[:, None]).to(logits.dtype)
            hidden_gradients.append((error @ weight).to(hidden.dtype))
            weight_gradient += error.T @ h
        if hidden_gradients:
            ctx.save_for_backward(torch.cat(hidden_gradients), weight_gradient.to(weight.dtype))
        return total.to(at_least_fp32(hidden.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * scale.to(hidden_gradient.dtype), weight_gradient * scale.to(weight_gradient.dtype), None


def _chunks(hidden: Tensor, targets: Tensor, weight: Tensor) -> "zip[tuple[Tensor, Tensor]]":
    """Rows of hidden states and targets, so many at a time that their logits number at most `MAX_LOGITS`."""
    rows = max(1, MAX_LOGITS // weight.shape[0])
    return zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
