"""The Talker: a text's symbols to the codec's codes.

A convolutional encoder reads the symbols and says how long each of them lasts; spread over that time, the text goes into a causal
transformer beside the codes said so far, and every step writes one code a book. The books are delayed, book k by k steps
(`nn.delay`). That the text arrives in time, by explicit durations (Ren et al. 2021, FastSpeech 2), is what makes minutes of
training enough: alignment is nothing the transformer has to discover. What it reads back of its own codes is corrupted in
training, since it will make mistakes.

The encoder looks a few symbols ahead and no further, so that speech can begin before a text has ended.
"""

from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.nn.arithmetic import multiplied_weights
from omnictl.nn.audio.length_regulator import SpreadText
from omnictl.nn.conv import ResidualConv, apply_layers
from omnictl.nn.transformer import DecoderBlock, KVCache, RMSNorm, Rotary, cached_visibility, rotary_table

LONGEST_DURATION = 50
"""Sub-frames, 20 ms each, that one symbol may last: a second."""

CAPACITY = 4096
"""Steps that one piece of text may take."""

_COUNTED = 32
"""Sub-frames from its beginning and from its end that a symbol's place is told apart."""


class TalkerConfig(Config):
    """Shape of a Talker."""

    layers: int = Field(4, ge=1, le=1_000, description="transformer blocks")
    width: int = Field(192, ge=2, le=100_000, description="numbers of a position's vector")
    heads: int = Field(3, ge=1, le=1_000, description="attention heads; width must divide by them")
    hidden: int = Field(512, ge=1, le=1_000_000, description="inner width of the SwiGLU feed-forward layer")
    text_layers: int = Field(3, ge=1, le=1_000, description="residual convolutions over the symbols")
    text_kernel: int = Field(5, ge=1, le=10_000, description="symbols that one of them sees, odd")
    dropout: float = Field(0.1, ge=0, lt=1, description="on what each layer adds")
    norm_eps: float = Field(1e-6, gt=0, description="added to the mean square of RMSNorm")

    @model_validator(mode="after")
    def _shapes_fit(self) -> "TalkerConfig":
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if self.text_kernel % 2 == 0:
            raise ValueError(f"text_kernel {self.text_kernel} must be odd")
        return self

    @property
    def lookahead(self) -> int:
        """Symbols after its own that the state of a symbol depends on, and as many before it."""
        return self.text_layers * (self.text_kernel // 2)


class Interface(NamedTuple):
    """The inputs and outputs of a Talker."""

    num_symbols: int
    books: int
    codes: int
    subframes: int  # of durations, in a frame of codes
    speakers: int  # that it tells apart; 0: it knows one voice only
    thinker_width: int = 0  # width of the states of a Thinker that reads along; 0: none does


class Talker(nn.Module):
    """Symbols and codes so far in, scores of the next codes out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TalkerConfig, interface: Interface) -> None:
        super().__init__()
        self.config, self.interface = config, interface
        width, eps = config.width, config.norm_eps
        self.symbols = nn.Embedding(interface.num_symbols, width)
        self.speakers = nn.Embedding(interface.speakers, width) if interface.speakers else None
        self.thoughts = nn.Linear(interface.thinker_width, width, bias=False) if interface.thinker_width else None
        self.text = nn.ModuleList(
            ResidualConv(width, config.text_kernel, eps, dropout=config.dropout) for _ in range(config.text_layers)
        )
        self.duration = nn.Sequential(RMSNorm(width, eps), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.index = nn.Embedding(_COUNTED, width)
        self.left = nn.Embedding(_COUNTED, width)
        self.frame = nn.Linear(interface.subframes * width, width)
        self.history = nn.Embedding(interface.books * (interface.codes + 1), width)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, config.heads, config.hidden, eps=eps, dropout=config.dropout) for _ in range(config.layers)
        )
        self.norm = RMSNorm(width, eps)
        self.head = nn.Linear(width, interface.books * interface.codes)
        self.dropout = nn.Dropout(config.dropout)
        table = rotary_table(CAPACITY, width // config.heads, 10_000.0)
        self.register_buffer("cos", table.cos, persistent=False)
        self.register_buffer("sin", table.sin, persistent=False)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "thoughts.weight")):
                nn.init.zeros_(parameter)
            elif isinstance(self.get_submodule(name.rpartition(".")[0]), nn.Embedding):
                nn.init.normal_(parameter, std=0.3)

    def read(
        self, symbols: Tensor, lengths: Tensor, speakers: Tensor | None = None, thinker_states: Tensor | None = None
    ) -> Tensor:
        """States `(B, T, D)` of symbols `(B, T)`, of which `(B,)` count.

        Args:
            symbols: what is read aloud.
            lengths: how many of them count.
            speakers: `(B,)` as whom, for a Talker of several voices.
            thinker_states: `(B, T, interface.thinker_width)` what a Thinker makes of them, for a Talker that reads along.
        """
        x = self.symbols(symbols)
        if self.thoughts is not None:
            assert thinker_states is not None, "a Talker that reads along needs the Thinker's states"
            x = x + self.thoughts(thinker_states)  # begins as nothing
        if self.speakers is not None:
            assert speakers is not None, "a Talker of several voices asks whose to take"
            x = x + self.speakers(speakers)[:, None]
        return apply_layers(self.text, x, lengths)

    def log_durations(self, states: Tensor) -> Tensor:
        """Natural logarithm of the sub-frames that each symbol lasts, `(B, T)`, from its state."""
        log_durations: Tensor = self.duration(states)[..., 0]
        return log_durations

    def expect_durations(self, log_duration: float) -> None:
        """Initialise the durations: every symbol lasts this long."""
        last = self.duration[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, log_duration)

    def frames(self, states: Tensor, spread: SpreadText) -> Tensor:
        """`(B, U / subframes, D)`: what of the text is said in each frame of codes."""
        owner = spread.owner.clamp(min=0)
        x = states.gather(1, owner[:, :, None].expand(-1, -1, states.shape[2]))  # (B, U, D)
        x = x + self.index(spread.before.clamp(max=_COUNTED - 1)) + self.left(spread.after.clamp(max=_COUNTED - 1))
        x = x * (spread.owner >= 0)[:, :, None]
        out: Tensor = self.frame(x.reshape(len(x), x.shape[1] // self.interface.subframes, -1))
        return out * (spread.owner[:, :: self.interface.subframes] >= 0)[:, :, None]  # nothing is said where a text has ended

    def scores(self, frames: Tensor, history: Tensor, cache: KVCache | None = None) -> Tensor:
        """Scores of every book's next code, `(B, L, K, V)`.

        Args:
            frames: `(B, L, D)` text of each step.
            history: `(B, K, L)` codes written one step before, `interface.codes` where there is none.
            cache: keys and values of earlier steps; it is extended by these L.
        """
        books, codes = self.interface.books, self.interface.codes
        offsets = torch.arange(books, device=history.device)[:, None] * (codes + 1)
        x = self.dropout(frames + self.history(history + offsets).sum(1))  # (B, L, D)
        start, length = (cache.length if cache else 0), x.shape[1]
        rotary = Rotary(self.cos[start : start + length], self.sin[start : start + length])
        visible = cached_visibility(start, length, x.device)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotary, visible, cache, layer)
        if cache:
            cache.length += length
        scores: Tensor = self.head(self.norm(x))
        return scores.reshape(*scores.shape[:-1], books, codes)

    def new_cache(self) -> KVCache:
        """An empty cache for one piece of text."""
        config = self.config
        head_width = config.width // config.heads
        return KVCache(
            layers=config.layers, batch=1, heads=config.heads, capacity=CAPACITY, head_width=head_width, like=self.head.weight
        )


def round_durations(log_durations: Tensor) -> Tensor:
    """Whole sub-frames, at least one, of predicted logarithms."""
    return log_durations.exp().round().long().clamp(1, LONGEST_DURATION)


def training_flops(model: Talker, lengths: Tensor, symbol_lengths: Tensor) -> float:
    """Floating-point operations of a training step on utterances of these frames of codes and symbols, padding not counted."""
    steps = lengths.double() + model.interface.books - 1
    per_step = multiplied_weights(model.frame, model.blocks, model.head)
    text = multiplied_weights(model.text, model.duration) * symbol_lengths.double()
    attention = 6.0 * model.config.layers * model.config.width * steps.square()
    return float((6.0 * (per_step * steps + text) + attention).sum())
