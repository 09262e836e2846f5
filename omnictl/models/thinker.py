"""The Thinker: a decoder-only language model that reads token ids or ready embeddings.

Architecture: Qwen3 (technical report, 2025); a dense Thinker's weights map one to one onto `Qwen3ForCausalLM`
(`models.qwen3`). Feed-forward layers start as zero (Zhang et al. 2019, Fixup), attention as `initialisation` says.
With `kv_shift` attention has four more numbers a head, which Qwen3 has not. Left out on purpose: biases, untied heads, sliding
windows, context extension.
"""

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnictl.config.base import Config
from omnictl.models.initialisation import STD, initialise_for_copying
from omnictl.nn.moe import MixtureOfExperts, Routed
from omnictl.nn.transformer import (
    Attention,
    Cache,
    KVCache,
    RMSNorm,
    Rotary,
    SwiGLU,
    Visibility,
    cached_visibility,
    document_mask,
    rotary_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnictl.nn.recompute import Checkpointing


class ThinkerConfig(Config):
    """Shape of a Thinker. The vocabulary comes from the tokenizer."""

    layers: int = Field(4, ge=1, le=1_000, description="transformer blocks")
    width: int = Field(256, ge=2, le=100_000, description="numbers of a token's vector")
    heads: int = Field(4, ge=1, le=1_000, description="attention heads; width must divide by them")
    kv_heads: int = Field(2, ge=1, le=1_000, description="heads of keys and values, each shared by several of the others")
    hidden: int = Field(1024, ge=1, le=1_000_000, description="inner width of the SwiGLU feed-forward layer (of each expert)")
    context: int = Field(512, ge=1, le=1_000_000, description="positions the model can read at once")
    rope_theta: float = Field(10_000.0, gt=0, description="base of the rotary positions; longer contexts want a larger one")
    norm_eps: float = Field(1e-6, gt=0, description="added to the mean square of RMSNorm")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the embeddings and on what each layer adds")
    kv_shift: bool = Field(False, description="mix keys and values with the previous position's; not in Qwen3's architecture")
    experts: int = Field(0, ge=0, le=1_000, description="0: dense feed-forward layers; else the number of experts in each")
    experts_per_token: int = Field(2, ge=1, le=1_000, description="experts that each token goes through")
    balance_weight: float = Field(0.01, ge=0, description="weight of the load-balancing loss")

    @model_validator(mode="after")
    def _shapes_fit(self) -> "ThinkerConfig":
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.experts and self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} exceeds experts {self.experts}")
        return self

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class ThinkerOutput(NamedTuple):
    """Final hidden states and, with experts, the balance term."""

    hidden: Tensor  # (B, T, D), or (N, D) of the positions that are scored; normalised: ready for the head
    balance: Tensor | None  # (B, T) sum over layers, of every position; 0 where padded


class Block(nn.Module):
    """Attention, then a feed-forward layer or a mixture of experts, each behind a norm and added to its input."""

    def __init__(self, config: ThinkerConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config.width, config.heads, config.kv_heads, config.norm_eps, shifts=config.kv_shift)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps)
        self.mlp: SwiGLU | MixtureOfExperts
        if config.experts:
            self.mlp = MixtureOfExperts(config.width, config.hidden, num_experts=config.experts, top_k=config.experts_per_token)
        else:
            self.mlp = SwiGLU(config.width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def attend(self, x: Tensor, rotary: Rotary, visibility: Visibility, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """First half: `(B, T, D)` to `(B, T, D)`."""
        added: Tensor = self.dropout(self.attention(self.attention_norm(x), rotary, visibility, cache, layer))
        return x + added

    def feed_forward(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Second half: `(B, T, D)` to `(B, T, D)`, balance and load of its experts (None if it has none)."""
        if isinstance(self.mlp, SwiGLU):
            return x + self.dropout(self.mlp(self.mlp_norm(x))), None, None
        routed: Routed = self.mlp(self.mlp_norm(x), valid)
        return x + self.dropout(routed.output), routed.balance, routed.load

    def gather(self, load: Tensor) -> None:
        """Add to the load that its experts take over at the end of the step."""
        assert isinstance(self.mlp, MixtureOfExperts)
        self.mlp.pending_load += load


class Thinker(nn.Module):
    """Decoder-only transformer with tied input and output embeddings."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ThinkerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.checkpointing: Checkpointing = "off"  # "selective": the feed-forward layers
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        table = rotary_table(config.context, config.head_width, config.rope_theta)
        self.register_buffer("cos", table.cos, persistent=False)
        self.register_buffer("sin", table.sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("down_proj.weight"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=STD)
        layers = [cast("Block", block).attention for block in self.blocks]
        initialise_for_copying(self.embedding, layers, self.norm, theta=self.config.rope_theta)

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        scored: Tensor | None = None,
    ) -> ThinkerOutput:
        """Read a batch of sequences.

        Args:
            tokens: `(B, T)` int64 ids, or None when `embeddings` are given.
            embeddings: `(B, T, D)` ready embeddings instead of tokens.
            segments: `(B, T)` document numbers; attention then stays inside a document. -1 is padding.
            positions: `(B, T, 3)` int64 moment, row and column, below the context; None counts up. Of text all three are equal.
            cache: keys and values of what came before; it is extended by these T positions.
            scored: `(B, T)` bool, N of them true: only their hidden states are wanted, `(N, D)`; None: all. The last dense
                feed-forward layer then computes no others.

        Returns:
            Hidden states after the final norm; `logits` turns them into scores.
        """
        assert (tokens is None) != (embeddings is None), "give tokens or embeddings"
        x = self.embedding(tokens) if embeddings is None else embeddings  # (B, T, D)
        x = self.dropout(x)
        start, length = (cache.length if cache else 0), x.shape[1]
        assert start + length <= self.config.context, f"{start + length} positions, context {self.config.context}"
        rotary = self._rotary(start, length) if positions is None else self._rotary_at(positions)
        if segments is not None:
            visible = document_mask(segments)
        else:
            visible = cache.visibility(length) if cache else cached_visibility(0, length, x.device)
        valid = None if segments is None else segments >= 0
        balances: list[Tensor] = []
        for layer, block in enumerate(cast("Iterable[Block]", self.blocks)):
            chosen = scored if layer == self.config.layers - 1 and not self.config.experts else None
            x, balance, load = self._run(block, x, rotary, visible, valid, cache, layer, chosen)
            if balance is not None and load is not None:
                balances.append(balance)
                if self.training:
                    block.gather(load)
        if cache:
            cache.advance(length)
        if scored is not None and self.config.experts:  # whose load and balance are those of all positions
            x = x[scored]
        return ThinkerOutput(self.norm(x), torch.stack(balances).sum(0) if balances else None)

    def _rotary(self, start: int, length: int) -> Rotary:
        return Rotary(self.cos[start : start + length], self.sin[start : start + length])

    def _rotary_at(self, positions: Tensor) -> Rotary:
        """Rotary positions of which neighbouring frequencies tell moment, row and column in turn (Qwen3-VL's interleaving)."""
        width = self.config.head_width
        along = torch.arange(width, device=positions.device)
        chosen = positions[..., along % (width // 2) % 3]  # (B, T, d)
        return Rotary(self.cos[chosen, along][:, None], self.sin[chosen, along][:, None])

    def _run(
        self,
        block: Block,
        x: Tensor,
        rotary: Rotary,
        visible: Visibility,
        valid: Tensor | None,
        cache: Cache | None,
        layer: int,
        chosen: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        mode = self.checkpointing if self.training and torch.is_grad_enabled() else "off"

        def attend(x: Tensor) -> Tensor:
            x = block.attend(x, rotary, visible, cache, layer)
            return x if chosen is None else x[chosen]

        if mode == "full":

            def whole(x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
                return block.feed_forward(attend(x), valid)

            out: tuple[Tensor, Tensor | None, Tensor | None] = checkpoint(whole, x, use_reentrant=False)
            return out
        x = attend(x)
        if mode == "selective":
            out = checkpoint(block.feed_forward, x, valid, use_reentrant=False)
            return out
        return block.feed_forward(x, valid)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary, `(…, V)`, of hidden states `(…, D)`."""
        return nn.functional.linear(hidden, self.embedding.weight)

    def new_cache(self, *, batch: int = 1, capacity: int | None = None, padding: Tensor | None = None) -> KVCache:
        """An empty cache for `batch` sequences of up to `capacity` positions (default: the whole context), padding included."""
        config = self.config
        return KVCache(
            layers=config.layers,
            batch=batch,
            heads=config.kv_heads,
            capacity=capacity or config.context,
            head_width=config.head_width,
            like=self.embedding.weight,
            padding=padding,
        )


def matmul_parameters(model: Thinker) -> int:
    """Weights that take part in a matrix product at each position: head in, lookup out, only the active experts."""
    config = model.config
    total = model.embedding.weight.numel()
    for name, parameter in model.blocks.named_parameters():
        if parameter.ndim == 2:
            share = config.experts_per_token / config.experts if ".experts." in name else 1.0
            total += round(parameter.numel() * share)
    return total


def training_flops(model: Thinker, lengths: Tensor, num_scored: int | None = None) -> float:
    """Floating-point operations of one forward and backward pass over documents of `lengths` positions.

    6 × matrix-product parameters × positions + causal attention (6 × T² × D a layer and document); recomputation is not
    counted (Kaplan et al. 2020; Chowdhery et al. 2022, appendix B).

    Args:
        model: the Thinker.
        lengths: `(documents,)` positions of each.
        num_scored: of these positions, those whose hidden states are wanted: the head and the last dense feed-forward layer
            compute no others; None: all.
    """
    config = model.config
    wide = lengths.double()
    attention = 6.0 * config.layers * config.width * float(wide.square().sum())
    everywhere, positions = 6.0 * matmul_parameters(model), float(wide.sum())
    if num_scored is None:
        return everywhere * positions + attention
    scored_only = model.embedding.weight.numel() + (0 if config.experts else 3 * config.width * config.hidden)
    return everywhere * positions - 6.0 * scored_only * (positions - num_scored) + attention
