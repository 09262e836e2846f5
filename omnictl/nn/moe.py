"""Sparse mixture of experts: every position is computed by its top-k experts.

Source: Switch Transformer (Fedus et al. 2021), equation 4, for the balance loss E · Σ_e f_e · P_e, with one change that makes
it exact under gradient accumulation: f_e, the share of positions sent to expert e, is the one of the *previous* step (a
buffer, summed over the whole batch), so that the loss is a plain sum over positions.
Left out on purpose: capacity limits (no position is ever dropped) and router noise.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from omnictl.nn.transformer import SwiGLU


class Routed(NamedTuple):
    """What a mixture layer returns."""

    output: Tensor  # (B, T, D)
    balance: Tensor  # (B, T) E · Σ_e f_e · p_e of each position, 0 where it is not valid
    load: Tensor  # (E,) how many valid positions each expert was chosen for


class MixtureOfExperts(nn.Module):
    """`num_experts` SwiGLU experts behind a softmax router; each position takes its best `top_k`, weights renormalised."""

    load: Tensor
    pending_load: Tensor

    def __init__(self, width: int, hidden: int, *, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.router = nn.Linear(width, num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(width, hidden) for _ in range(num_experts))
        self.register_buffer("load", torch.full((num_experts,), 1 / num_experts))
        self.register_buffer("pending_load", torch.zeros(num_experts), persistent=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Routed:
        """Route `(B, T, D)`; `valid` `(B, T)` marks the positions that count for balance and load (default: all)."""
        flat = x.reshape(-1, x.shape[-1])  # (N, D)
        probs = self.router(flat).float().softmax(-1)  # (N, E)
        weights, chosen = probs.topk(self.top_k, dim=-1)  # (N, k)
        weights = weights / weights.sum(-1, keepdim=True)
        output = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            rows, slots = torch.where(chosen == index)
            answer = expert(flat[rows]) * weights[rows, slots, None]
            output = output.index_add(0, rows, answer.to(output.dtype))
        counted = torch.ones_like(probs[:, 0]) if valid is None else valid.reshape(-1).to(probs.dtype)  # (N,)
        balance = len(self.experts) * (counted[:, None] * probs * self.load).sum(-1)
        load = torch.zeros_like(self.load).index_add(0, chosen.flatten(), counted.repeat_interleave(self.top_k).to(self.load.dtype))
        return Routed(output.view_as(x), balance.view(x.shape[:-1]), load.detach())

    def apply_batch_statistics(self) -> None:
        """Take over the loads gathered since the last call; the training loop calls it once a step."""
        if self.pending_load.sum() > 0:
            self.load.copy_(self.pending_load / self.pending_load.sum())
            self.pending_load.zero_()

    def share_batch_statistics(self, concatenate: Callable[[Tensor], Tensor]) -> None:
        """Add up the loads gathered since the last call over all processes."""
        self.pending_load.copy_(concatenate(self.pending_load[None]).sum(0))

    def forget_batch_statistics(self) -> None:
        """Forget the loads gathered since the last call."""
        self.pending_load.zero_()
