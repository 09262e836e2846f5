"""How a Thinker's weights start: ready to copy from its context, which a small model otherwise takes longest to discover.

- Tied embeddings start at unit size, far apart, and the final norm flips the sign S of half the dimensions: a token is read as E
  and predicted as S·E, which are unrelated directions, so that nothing predicts itself.
- Attention predicts what it looks at: rows of V are orthonormal and O = S·Vᵀ. Only where to look is left to learn (mimetic
  initialisation, Trockman & Kolter 2023).
- In the first layer, every second head looks one position back and notes what stands there under other signs R. The predecessor
  of each token is what later layers need to find a place again (induction heads, Olsson et al. 2022).

Feed-forward layers start at zero output, all else at random. Nothing is added to the architecture and everything stays trainable.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from omnictl.nn.transformer import Attention, RMSNorm, Rotary, rotary_table, rotate

STD = 0.02
"""Standard deviation of weights that start at random."""

COMMON_SHARE = 0.5
"""Size of the direction that all embeddings share against their own part; looking back is an answer to it, not to content."""

SHARP_PAIRS = 4
"""One in so many rotary pairs, the fastest turning ones, tell one position from the next."""


def initialise_for_copying(embedding: nn.Embedding, layers: Sequence[Attention], norm: RMSNorm, *, theta: float) -> None:
    """Overwrite embeddings, final norm and attention in place, drawing from torch's global generator.

    Queries and keys are left as they are, except in the first layer.

    Args:
        embedding: `(V, D)` tied token embeddings.
        layers: the attention layers, first to last.
        norm: the norm before the head.
        theta: base of the rotary frequencies.
    """
    width = embedding.embedding_dim
    output_signs, predecessor_signs = _random_signs(width), _random_signs(width)  # S and R, (D,)
    common = nn.functional.normalize(torch.randn(width), dim=0)  # (D,)
    with torch.no_grad():
        norm.weight.copy_(output_signs / math.sqrt(width))  # logits start with variance one
        nn.init.normal_(embedding.weight)
        embedding.weight += COMMON_SHARE * math.sqrt(width) * common
        for attention in layers:
            _copy_what_is_seen(attention, output_signs)
        _look_back(layers[0], common, predecessor_signs, theta)


def _random_signs(width: int) -> Tensor:
    """`(D,)` of as many -1 as 1, in random order."""
    return (torch.randperm(width) % 2) * 2.0 - 1


def _copy_what_is_seen(attention: Attention, signs: Tensor) -> None:
    group = attention.heads // attention.kv_heads
    nn.init.orthogonal_(attention.v_proj.weight)
    values = attention.v_proj.weight.view(attention.kv_heads, attention.head_width, -1)  # (KV, d, D)
    outputs = values.repeat_interleave(group, 0).flatten(0, 1) / group  # (H * d, D)
    attention.o_proj.weight.copy_(signs[:, None] * outputs.T)


def _look_back(attention: Attention, common: Tensor, signs: Tensor, theta: float) -> None:
    """Let every second head look at the previous position; a key is then two parts pattern and one part content."""
    queries = attention.q_proj.weight.view(attention.heads, attention.head_width, -1)  # (H, d, D)
    keys = attention.k_proj.weight.view(attention.kv_heads, attention.head_width, -1)  # (KV, d, D)
    values = attention.v_proj.weight.view_as(keys)
    outputs = attention.o_proj.weight.view(-1, attention.heads, attention.head_width)  # (D, H, d)
    here, one_on = _previous_position_pattern(attention.head_width, theta)
    # A normalised embedding holds this share of the common direction; random weights answer with STD in each of d dimensions.
    share = COMMON_SHARE / math.sqrt(1 + COMMON_SHARE**2)
    strength = STD * math.sqrt(attention.head_width) / share
    group = attention.heads // attention.kv_heads
    heads = range(0, attention.heads, 2)
    for head in heads:
        queries[head].mul_(0.3).add_(torch.outer(here, common), alpha=4 * strength)
        outputs[:, head] = signs[:, None] * values[head // group].T
    for kv_head in {head // group for head in heads}:
        keys[kv_head].add_(torch.outer(one_on, common), alpha=2 * strength)


def _previous_position_pattern(head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Unit vectors `(d,)`: u, and u turned on by one position, so that a query u matches the key of the position before it best."""
    half = head_width // 2
    sharp = max(1, half // SHARP_PAIRS)
    u = (torch.arange(half) < sharp).float().repeat(2) / math.sqrt(2 * sharp)
    table = rotary_table(2, head_width, theta)
    return u, rotate(u[None, None, None], Rotary(table.cos[1:], table.sin[1:]))[0, 0, 0]
