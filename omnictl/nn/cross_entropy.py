"""Cross-entropy of a tied output head without ever holding all logits.

The rows are taken in chunks and each chunk's logits are recomputed in the backward pass (Chen et al. 2016, activation
checkpointing), so the peak is one chunk of logits instead of `(N, V)`. The price is one extra head product.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 1 << 22
"""Logits held at a time: 16 MiB in fp32."""

IGNORE = -100
"""Target of a position that is not scored."""


class RowScores(NamedTuple):
    """How a model rates given targets."""

    nats: Tensor  # (N,) negative log-probability of each target
    is_likeliest: Tensor  # (N,) bool


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats over all scored targets, a scalar.

    Args:
        hidden: `(N, D)` final hidden states.
        weight: `(V, D)` output head.
        targets: `(N,)` int64, `IGNORE` where nothing is scored.
    """
    rows = max(1, MAX_LOGITS // weight.shape[0])
    if len(targets) <= rows:
        return _chunk_sum(hidden, weight, targets)
    chunks = [
        checkpoint(_chunk_sum, h, weight, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.stack(chunks).sum()


def score_rows(hidden: Tensor, weight: Tensor, targets: Tensor) -> RowScores:
    """Rate `(N,)` targets one by one, for evaluation; shapes as in `cross_entropy_sum`, no target ignored."""
    rows = max(1, MAX_LOGITS // weight.shape[0])
    nats, likeliest = [], []
    for h, t in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = _logits(h, weight)
        nats.append(F.cross_entropy(logits, t, reduction="none"))
        likeliest.append(logits.argmax(-1) == t)
    return RowScores(torch.cat(nats), torch.cat(likeliest))


def _chunk_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(_logits(hidden, weight), targets, ignore_index=IGNORE, reduction="sum")


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """Scores `(N, V)`, at least in fp32: a sum over a large vocabulary needs it."""
    logits = F.linear(hidden, weight)
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
