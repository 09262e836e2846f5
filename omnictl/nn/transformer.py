"""A pre-norm decoder block with Qwen3's choices: RMSNorm, rotary positions, grouped-query attention with QK-norm, SwiGLU.

Sources: Zhang & Sennrich 2019 (RMSNorm), Su et al. 2021 (RoPE, half-split layout), Ainslie et al. 2023 (grouped queries),
Henry et al. 2020 (QK-norm), Shazeer 2020 (SwiGLU); Qwen3 technical report 2025 for the combination.
Left out on purpose: biases, dropout inside the attention weights (it would rule out the fused kernels).
"""

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in fp32 at least, returned in the dtype that came in."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(…, D)`."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        normalised: Tensor = _Normalisation.apply(wide, self.weight, self.eps)
        return normalised.to(x.dtype)


class _Normalisation(torch.autograd.Function):
    """x ÷ RMS(x) × weight, with a backward pass that goes over the data half as often as the one torch derives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Map `(…, D)` to `(…, D)`."""
        scale = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + eps)  # (…, 1)
        normalised = x * scale
        ctx.save_for_backward(normalised, scale, weight)
        return normalised * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of `x` and `weight`."""
        (gradient,) = gradients
        normalised, scale, weight = ctx.saved_tensors
        along = gradient * normalised
        inner = (along @ weight)[..., None] / weight.shape[0]  # (…, 1)
        return (gradient * weight).addcmul_(normalised, inner, value=-1).mul_(scale), along.flatten(0, -2).sum(0), None


class Rotary(NamedTuple):
    """Cosines and sines of rotary positions, each `(T, d)` or `(B, 1, T, d)`, d the head width."""

    cos: Tensor
    sin: Tensor


def rotary_table(context: int, head_width: int, theta: float, dtype: torch.dtype = torch.float32, *, start: int = 0) -> Rotary:
    """Cosines and sines of positions start…start+context-1, `(context, head_width)` each, in the half-split layout."""
    frequencies = theta ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)  # (d/2)
    angles = torch.outer(torch.arange(start, start + context, dtype=torch.float64), frequencies)  # (context, d/2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return Rotary(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))  # the minus of the rotation sits in the table


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate `(B, H, T, d)` by its positions."""
    half = x.shape[-1] // 2
    swapped = torch.cat([x[..., half:], x[..., :half]], -1)
    return x * rotary.cos.to(x.dtype) + swapped * rotary.sin.to(x.dtype)


class Cache(Protocol):
    """Keys and values of positions that were read before, of all layers."""

    @property
    def length(self) -> int:
        """The number of positions that it holds; of texts of unequal length, the most."""
        ...

    def visibility(self, new: int) -> "Visibility":
        """What `new` further positions see."""
        ...

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in `(B, KV, T, d)` of new positions; returns those of all, `(B, KV, length + T, d)`."""
        ...

    def swap_last(self, layer: int, both: Tensor) -> Tensor:
        """Keep keys and values `(B, KV, 1, 2d)` of the newest position for `KVShift`; returns those of the one before."""
        ...

    def advance(self, new: int) -> None:
        """All layers have taken in `new` positions."""
        ...


class KVCache:
    """Keys and values of all layers for up to `capacity` positions: `(B, KV heads, capacity, d)` a layer.

    `length` is the number of positions already held; the model advances it once a call. Where attention shifts (`KVShift`), `last`
    has for each layer keys and values of the newest position as they were before, `(B, KV heads, 1, 2 × d)`. `padding` has the
    number of positions, `(B,)`, with which a row begins that nobody sees, so that rows of unequal length end together; None: none.
    """

    def __init__(
        self, *, layers: int, batch: int, heads: int, capacity: int, head_width: int, like: Tensor, padding: Tensor | None = None
    ) -> None:
        shape = (batch, heads, capacity, head_width)
        self.keys = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(layers)]
        self.last: dict[int, Tensor] = {}
        self.padding = padding
        self.capacity = capacity
        self.length = 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `(B, KV, T, d)` at the current length; returns everything held so far, `(B, KV, length + T, d)`."""
        stop = self.length + keys.shape[2]
        assert stop <= self.capacity, f"cache of {self.capacity} positions asked to hold {stop}"
        self.keys[layer][:, :, self.length : stop] = keys
        self.values[layer][:, :, self.length : stop] = values
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def visibility(self, new: int) -> "Visibility":
        """What `new` further positions see."""
        return cached_visibility(self.length, new, self.keys[0].device, self.padding)

    def swap_last(self, layer: int, both: Tensor) -> Tensor:
        """Keep keys and values of the newest position for `KVShift`; returns those of the one before."""
        before = self.last.get(layer)
        self.last[layer] = both
        return torch.zeros_like(both) if before is None else before

    def advance(self, new: int) -> None:
        """All layers have taken in `new` positions."""
        self.length += new

    def keep_last(self, count: int) -> None:
        """Forget all but the last `count` positions, if there are more."""
        if self.length > count:
            for held in (*self.keys, *self.values):
                held[:, :, :count] = held[:, :, self.length - count : self.length].clone()
            self.length = count


class Visibility(NamedTuple):
    """Who sees whom: plain causal attention, or a boolean mask `(B or 1, 1, T, S)`, True where query t sees key s."""

    causal: bool
    mask: Tensor | None
    begins: Tensor | None = None
    """`(B, T)` bool, True where a document begins: what stands before it belongs to another. None: only the first position does."""


def document_mask(segments: Tensor) -> Visibility:
    """Causal attention that stays inside its document.

    Args:
        segments: `(B, T)` document number of every position within its window; -1 marks padding, which sees itself.
    """
    same = segments[:, None, :, None] == segments[:, None, None, :]  # (B, 1, T, T)
    begins = segments != F.pad(segments, (1, 0), value=-1)[:, :-1]  # (B, T)
    return Visibility(causal=False, mask=same & _lower_triangle(same.shape[2], same.shape[3], same.device), begins=begins)


def cached_visibility(length: int, new: int, device: torch.device, padding: Tensor | None = None) -> Visibility:
    """Visibility of `new` positions that follow `length` cached ones; `padding` as of a `KVCache`."""
    if padding is not None:
        return _padded_visibility(length, new, padding)
    if length == 0:
        return Visibility(causal=new > 1, mask=None)
    if new == 1:
        return Visibility(causal=False, mask=None)
    return Visibility(causal=False, mask=_lower_triangle(new, length + new, device)[None, None])


def _padded_visibility(length: int, new: int, padding: Tensor) -> Visibility:
    """The same where rows begin with padding, which sees itself."""
    places = torch.arange(length + new, device=padding.device)
    real = places >= padding[:, None]  # (B, S)
    itself = places[length:, None] == places  # (T, S)
    mask = _lower_triangle(new, length + new, padding.device) & real[:, None] | itself  # (B, T, S)
    return Visibility(causal=False, mask=mask[:, None], begins=places[length:] == padding[:, None])


def _lower_triangle(new: int, held: int, device: torch.device) -> Tensor:
    """`(new, held)`: the last `new` of `held` positions, each of which sees itself and what comes before."""
    return torch.ones(new, held, dtype=torch.bool, device=device).tril(diagonal=held - new)


PLAIN_ATTENTION_SCORES = 2**24
"""Up to so many scores, plain products replace the fused kernel where that is slow: bfloat16 training on a CPU."""


def attend(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    """Softmax attention of `(B, H, T, d)` queries over `(B, KV, S, d)` keys and values; H a multiple of KV."""
    scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    trains = torch.is_grad_enabled() and q.requires_grad
    if trains and q.device.type == "cpu" and q.dtype == torch.bfloat16 and scores <= PLAIN_ATTENTION_SCORES:
        return _attend_by_products(q, k, v, visibility)
    is_grouped = bool(q.shape[1] != k.shape[1])  # sizes are tensors while a graph is traced
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visibility.mask, is_causal=visibility.causal, enable_gqa=is_grouped)


def _attend_by_products(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility) -> Tensor:
    batch, heads, length, width = q.shape
    kv_heads, held = k.shape[1:3]
    grouped = (q * width**-0.5).reshape(batch, kv_heads, -1, width)  # (B, KV, H/KV * T, d)
    scores = (grouped @ k.mT).view(batch, kv_heads, -1, length, held)
    mask = _lower_triangle(length, held, q.device)[None, None] if visibility.causal else visibility.mask
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
        scores = scores + bias[:, :, None]
    weights = scores.softmax(-1).view(batch, kv_heads, -1, held)
    mixed: Tensor = (weights.to(v.dtype) @ v).view(batch, heads, length, width)
    return mixed


class KVShift(nn.Module):
    """Keys and values mixed with those of the position before, by two learned numbers a head each (Xu et al. 2024, arXiv
    2411.19574).

    What a token follows is then in its key without a layer of its own: to find what came after an earlier A takes one layer less.
    It begins with the own position alone.
    """

    def __init__(self, kv_heads: int) -> None:
        super().__init__()
        self.own_key = nn.Parameter(torch.ones(kv_heads))
        self.own_value = nn.Parameter(torch.ones(kv_heads))
        self.previous_key = nn.Parameter(torch.zeros(kv_heads))
        self.previous_value = nn.Parameter(torch.zeros(kv_heads))

    def forward(self, k: Tensor, v: Tensor, begins: Tensor | None, cache: Cache | None, layer: int) -> tuple[Tensor, Tensor]:
        """Map keys and values, each `(B, KV, T, d)`; `begins` as in `Visibility`; a cache holds what stands before the first."""
        both = torch.cat([k, v], -1)  # (B, KV, T, 2d)
        first = both.new_zeros(both[:, :, :1].shape) if cache is None else cache.swap_last(layer, both[:, :, -1:])
        previous = torch.cat([first.to(both.dtype), both[:, :, :-1]], 2)
        if begins is not None:
            previous = previous.masked_fill(begins[:, None, :, None], 0.0)
        own = _per_head(self.own_key, self.own_value, k)
        other = _per_head(self.previous_key, self.previous_value, k)
        mixed = torch.addcmul(both * own, previous, other)
        return mixed[..., : k.shape[-1]], mixed[..., k.shape[-1] :]


def _per_head(key: Tensor, value: Tensor, like: Tensor) -> Tensor:
    """`(KV, 1, 2d)` factors of keys and values that stand side by side."""
    width = like.shape[-1]
    return torch.cat([key[:, None, None].expand(-1, 1, width), value[:, None, None].expand(-1, 1, width)], -1).to(like.dtype)


class Attention(nn.Module):
    """Grouped-query attention with QK-norm and, unless positions are in its input already, rotary positions."""

    def __init__(self, width: int, heads: int, kv_heads: int, eps: float, *, shifts: bool = False) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.q_proj = nn.Linear(width, heads * self.head_width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.o_proj = nn.Linear(heads * self.head_width, width, bias=False)
        self.q_norm = RMSNorm(self.head_width, eps)
        self.k_norm = RMSNorm(self.head_width, eps)
        self.shift = KVShift(kv_heads) if shifts else None

    def forward(
        self, x: Tensor, rotary: Rotary | None, visibility: Visibility, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """Attend: `(B, T, D)` to `(B, T, D)`; with a cache, also to all positions it holds."""
        batch, length, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, length, self.heads, self.head_width)).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)  # (B, KV, T, d)
        if self.shift is not None:
            k, v = self.shift(k, v, visibility.begins, cache, layer)
        k = self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is not None:
            k, v = cache.extend(layer, k, v.to(k.dtype))
        mixed = attend(q, k, v.to(q.dtype), visibility)  # (B, H, T, d)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class SwiGLU(nn.Module):
    """Gated feed-forward layer: down(silu(gate(x)) × up(x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(…, D)` to `(…, D)`."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class EncoderBlock(nn.Module):
    """Attention over everything and SwiGLU, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, hidden: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width, eps)
        self.attention = Attention(width, heads, heads, eps)
        self.mlp_norm = RMSNorm(width, eps)
        self.mlp = SwiGLU(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: Rotary | None = None, valid: Tensor | None = None) -> Tensor:
        """Map `(B, T, D)` to `(B, T, D)`; `valid` `(B, T)` marks what is not padding (None: all)."""
        visibility = Visibility(causal=False, mask=None if valid is None else valid[:, None, None])
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, visibility))
        added: Tensor = self.dropout(self.mlp(self.mlp_norm(x)))
        return x + added


class DecoderBlock(nn.Module):
    """Causal attention and SwiGLU, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, hidden: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width, eps)
        self.attention = Attention(width, heads, heads, eps)
        self.mlp_norm = RMSNorm(width, eps)
        self.mlp = SwiGLU(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: Rotary, visibility: Visibility, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """Map `(B, T, D)` to `(B, T, D)`; with a cache, seeing all positions it holds."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, visibility, cache, layer))
        added: Tensor = self.dropout(self.mlp(self.mlp_norm(x)))
        return x + added
