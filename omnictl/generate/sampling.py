"""Choosing the next token from its scores.

Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p, nucleus), Keskar et al. 2019 (repetition penalty, CTRL section 4.1).
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from omnictl.config import Config


class SamplingConfig(Config):
    """How the next token is chosen. Temperature 0 is greedy."""

    temperature: float = Field(0.7, ge=0, le=10)
    top_k: int = Field(0, ge=0, le=1_000_000_000, description="keep the k likeliest tokens; 0: all")
    top_p: float = Field(0.95, gt=0, le=1, description="keep the likeliest tokens that together reach p")
    repetition_penalty: float = Field(1.0, ge=1, le=10, description="1: none")


def choose_token(logits: Tensor, config: SamplingConfig, *, previous: Sequence[int], generator: torch.Generator) -> int:
    """Draw one token id from `(V,)` scores; `previous` are the tokens that the repetition penalty makes less likely."""
    scores = logits.float().clone()
    if config.repetition_penalty != 1 and previous:
        seen = torch.tensor(sorted(set(previous)), device=scores.device)
        picked = scores[seen]
        scores[seen] = torch.where(picked > 0, picked / config.repetition_penalty, picked * config.repetition_penalty)
    if config.temperature == 0:
        return int(scores.argmax())
    probabilities = divide_by_temperature(scores, config.temperature).softmax(-1)
    ordered, ids = probabilities.sort(descending=True, stable=True)
    keep = ordered.cumsum(-1) - ordered < config.top_p  # the token that crosses p is still in
    if config.top_k:
        keep[config.top_k :] = False
    drawn = torch.multinomial(ordered * keep, 1, generator=generator)
    return int(ids[drawn])


def divide_by_temperature(scores: Tensor, temperature: float) -> Tensor:
    """fp32 scores `(…, V)` at a temperature above 0, up to a constant a row."""
    scaled = scores / temperature
    if not bool(scaled.isfinite().all()):  # so cold that only differences can be divided
        scaled = ((scores - scores.amax(-1, keepdim=True)).double() / temperature).float()
    return scaled
