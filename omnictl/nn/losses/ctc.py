"""Connectionist temporal classification: ln p of a target, summed over every way to spread it over the frames.

A path gives each frame a symbol or the blank; merging repeats and dropping blanks turns it into a target. So a target needs as
many frames as it has symbols, and one more between two equal ones; with fewer its probability is zero and its loss infinite,
and the gradient of the whole batch is NaN. Such rows are the data's to report and leave out: nothing is masked here, and the
training loop stops at a loss that is not finite.

Source: Graves et al. 2006, "Connectionist Temporal Classification".
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from omnictl.nn.arithmetic import at_least_fp32

BLANK = 0
"""The output that stands for no symbol; targets never contain it."""


def min_frames(target: Sequence[int]) -> int:
    """Fewest frames that a target fits into."""
    return len(target) + sum(left == right for left, right in pairwise(target))


def ctc_nats(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """-ln p of each row's target in nats, `(B,)` in fp32 at least; infinite where the target does not fit into the frames.

    Args:
        logits: `(B, S, V)` scores of `BLANK` and the symbols, any float dtype.
        lengths: `(B,)` int64 frames that count; the others are padding and have no influence.
        targets: `(B, U)` int64 symbols, padded with anything.
        target_lengths: `(B,)` int64 symbols that count, possibly none.
    """
    wide = at_least_fp32(logits.dtype)  # a sum over many paths needs it, whatever autocast says
    log_probs = F.log_softmax(logits.to(wide), -1).transpose(0, 1)  # (S, B, V)
    # CUDA's kernel adds its gradient up in any order, and not every other device has one; the work is small enough for a CPU.
    if logits.device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        log_probs, targets = log_probs.cpu(), targets.cpu()
    nats = F.ctc_loss(log_probs, targets, lengths.cpu(), target_lengths.cpu(), BLANK, reduction="none")
    return nats.to(logits.device)


def ctc_sum(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Sum of `ctc_nats` over the batch, a scalar."""
    return ctc_nats(logits, lengths, targets, target_lengths).sum()
