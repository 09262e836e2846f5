"""Monotonic alignment: which symbol of a text each frame belongs to, when all that is known is that both go forward.

Every frame has a distribution over the symbols of its text. A path starts at the first symbol, ends at the last, and from frame to
frame stays or goes on by one; the forward sum is the probability of all paths together.
Sources: Rabiner 1989 (forward and Viterbi algorithms), Badlani et al. 2022, "One TTS Alignment To Rule Them All" (the forward sum
as CTC over the positions of a text; the beta-binomial prior).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from omnictl.nn.losses.ctc import BLANK, ctc_nats

_NEVER = -1e4

assert BLANK == 0, "the column of the blank is put before the positions' own"


def forward_sum_nats(log_probs: Tensor, lengths: Tensor, text_lengths: Tensor) -> Tensor:
    """-ln of the summed probability of all monotonic paths, `(B,)`; infinite for a text of more symbols than frames.

    Args:
        log_probs: `(B, S, T)` ln p(symbol at position t | frame s), normalised over the positions that count.
        lengths: `(B,)` frames that count.
        text_lengths: `(B,)` positions that count.
    """
    positions = torch.arange(1, log_probs.shape[2] + 1, device=log_probs.device).expand(len(log_probs), -1)
    with_blank = F.pad(log_probs, (1, 0), value=_NEVER)  # a CTC whose blank never comes
    return ctc_nats(with_blank, lengths, positions, text_lengths)


def beta_binomial_prior(lengths: Tensor, text_lengths: Tensor, num_frames: int, num_positions: int) -> Tensor:
    """`(B, S, T)` ln p of every position under a prior that favours the diagonal; −∞-like where a text has ended.

    Frame s of S has the beta-binomial distribution of T − 1 trials with α = s and β = S + 1 − s (s from 1).
    """
    frame = torch.arange(1, num_frames + 1, dtype=torch.float32)[None, :, None]
    position = torch.arange(num_positions, dtype=torch.float32)[None, None]
    frames, trials = lengths.float()[:, None, None], (text_lengths.float() - 1)[:, None, None]
    inside = position <= trials
    alpha, beta = frame, (frames + 1 - frame).clamp(min=1.0)
    position = torch.minimum(position, trials)
    choose = torch.lgamma(trials + 1) - torch.lgamma(position + 1) - torch.lgamma(trials - position + 1)
    ln_p = choose + _ln_beta(position + alpha, trials - position + beta) - _ln_beta(alpha, beta)
    return torch.where(inside, ln_p, torch.full_like(ln_p, _NEVER))


def _ln_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
