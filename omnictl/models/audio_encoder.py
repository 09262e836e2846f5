"""The audio encoder: log-mel features to frames at 25 Hz, a CTC head over them, and frames at 12.5 Hz for the Thinker.

Two strided convolutions, then pre-norm blocks of attention (rotary positions, seeing all of the utterance), Conformer's convolution
module and SwiGLU. It can hear in chunks, too, with the same weights (`streaming`): a frame then sees its chunk to the end and some
chunks before it; `models.audio_stream` does so while the audio comes. Sources: Gulati et al. 2020 (Conformer), Graves et al. 2006
(CTC), Su et al. 2021 (rotary positions), Zhang et al. 2020 (U2: one model for whole utterances and for chunks).
Left out on purpose: Conformer's second half feed-forward layer and batch norm; relative-position tables.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnictl.config.base import Config
from omnictl.nn.arithmetic import multiplied_weights
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.conv import ConvolutionModule, Subsampling, halve, valid_mask
from omnictl.nn.transformer import Attention, KVCache, RMSNorm, Rotary, SwiGLU, Visibility, rotary_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnictl.nn.recompute import Checkpointing


class StreamingConfig(Config):
    """How speech is heard while it comes: chunk by chunk, each without what follows it."""

    share: float = Field(0.0, ge=0, le=1, description="of the training utterances that are heard in chunks; 0: none")
    chunk: int = Field(16, ge=1, le=10_000, description="frames of 40 ms that are heard at once")
    left: int = Field(4, ge=0, le=10_000, description="chunks that are seen before each")


class AudioEncoderConfig(Config):
    """Shape of an audio encoder. The number of symbols comes from the data's alphabet."""

    mel: MelConfig = MelConfig()
    layers: int = Field(4, ge=1, le=1_000, description="blocks")
    width: int = Field(192, ge=2, le=100_000, description="numbers of a frame's vector")
    heads: int = Field(3, ge=1, le=1_000, description="attention heads; width must divide by them")
    hidden: int = Field(512, ge=1, le=1_000_000, description="inner width of the SwiGLU feed-forward layer")
    kernel: int = Field(15, ge=0, le=10_000, description="frames the depthwise convolution sees, odd; 0 leaves the module out")
    dropout: float = Field(0.1, ge=0, lt=1, description="on what each layer adds")
    emissions: Literal["auto", 1, 2] = Field(
        "auto", description="symbols the CTC head may emit a frame; auto: 1, or 2 where texts would not fit at 25 Hz"
    )
    norm_eps: float = Field(1e-6, gt=0, description="added to the mean square of RMSNorm")
    streaming: StreamingConfig = StreamingConfig()

    @model_validator(mode="after")
    def _shapes_fit(self) -> "AudioEncoderConfig":
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        if self.kernel and self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd, or 0 for none")
        return self


class Encoded(NamedTuple):
    """The encoder's output for a batch."""

    frames: Tensor  # (B, S, D), normalised, zero where padded
    lengths: Tensor  # (B,)


class Scope(NamedTuple):
    """What the frames of a batch see."""

    valid: Tensor | None  # (B, S) bool, False where padded; None: nowhere
    visibility: Visibility
    chunk: int | None  # frames after which a chunk ends; None: they hear whole utterances


class AudioEncoderBlock(nn.Module):
    """Attention, convolution module, feed-forward layer, each behind a norm and added to its input."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.attention_norm = RMSNorm(width, eps)
        self.attention = Attention(width, config.heads, config.heads, eps)
        self.convolution_norm = RMSNorm(width, eps) if config.kernel else None
        self.convolution = ConvolutionModule(width, config.kernel, eps) if config.kernel else None
        self.mlp_norm = RMSNorm(width, eps)
        self.mlp = SwiGLU(width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotary: Rotary, scope: Scope) -> Tensor:
        """Map `(B, S, D)` to `(B, S, D)`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, scope.visibility))
        if self.convolution is not None and self.convolution_norm is not None:
            x = x + self.dropout(self.convolution(self.convolution_norm(x), scope.valid, scope.chunk))
        return self._feed_forward(x)

    def step(self, x: Tensor, rotary: Rotary, cache: KVCache, layer: int, before: Tensor) -> tuple[Tensor, Tensor]:
        """A chunk of a stream `(1, n, D)`, which sees what the cache holds; `before` as of `ConvolutionModule.step`."""
        x = x + self.attention(self.attention_norm(x), rotary, Visibility(causal=False, mask=None), cache, layer)
        if self.convolution is not None and self.convolution_norm is not None:
            added, before = self.convolution.step(self.convolution_norm(x), before)
            x = x + added
        return self._feed_forward(x), before

    def _feed_forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.dropout(self.mlp(self.mlp_norm(x)))
        return x + added


def _scope(valid: Tensor, streaming: StreamingConfig | None) -> Scope:
    """What frames see of a batch of which `(B, S)` are valid: everything, or their chunk and some chunks before it."""
    padding = None if bool(valid.all()) else valid
    if streaming is None:
        return Scope(padding, Visibility(causal=False, mask=None if padding is None else padding[:, None, None]), None)
    places = torch.arange(valid.shape[1], device=valid.device)
    back = places[:, None] // streaming.chunk - places // streaming.chunk
    near = ((back >= 0) & (back <= streaming.left))[None, None]  # (1, 1, S, S)
    itself = places[:, None] == places  # without it a padded frame might see nothing at all
    mask = near if padding is None else near & padding[:, None, None] | itself
    return Scope(padding, Visibility(causal=False, mask=mask), streaming.chunk)


class AudioEncoder(nn.Module):
    """Log-mel features in, frames out. `mean` and `std` of the training data's features are part of the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AudioEncoderConfig, num_symbols: int) -> None:
        super().__init__()
        assert config.emissions != "auto", "resolve `emissions` before a model is made"
        self.config = config
        self.num_symbols = num_symbols
        self.checkpointing: Checkpointing = "off"
        self.register_buffer("mean", torch.zeros(config.mel.bins))
        self.register_buffer("std", torch.ones(config.mel.bins))
        self.subsampling = Subsampling(config.mel.bins, config.width)
        self.blocks = nn.ModuleList(AudioEncoderBlock(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, config.emissions * num_symbols)
        self.dropout = nn.Dropout(config.dropout)
        self._initialise()

    def _initialise(self) -> None:
        """What adds to the residual stream starts as zero (Zhang et al. 2019, Fixup)."""
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, lengths: Tensor, *, in_chunks: bool = False) -> Encoded:
        """Encode a batch of utterances.

        Args:
            features: `(B, T, F)` log-mels as `nn.audio.mel.log_mel` makes them; anything where padded.
            lengths: `(B,)` mel frames of each utterance.
            in_chunks: whether they are heard as a stream is, as `config.streaming` says; features are `level_by_chunks` then.

        Returns:
            Frames at a quarter of the rate, 25 Hz with 10 ms mels.
        """
        inside = valid_mask(lengths, features.shape[1])[:, :, None]
        x = ((features - self.mean) / self.std).masked_fill(~inside, 0.0)  # (B, T, F)
        x, lengths = self.subsampling(x, lengths)  # (B, S, D)
        x = self.dropout(x)
        valid = valid_mask(lengths, x.shape[1])
        scope = _scope(valid, self.config.streaming if in_chunks else None)
        table = rotary_table(x.shape[1], self.config.width // self.config.heads, 10_000.0)
        rotary = Rotary(table.cos.to(x.device), table.sin.to(x.device))
        for block in cast("Iterable[AudioEncoderBlock]", self.blocks):
            if self.checkpointing != "off" and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, rotary, scope, use_reentrant=False)
            else:
                x = block(x, rotary, scope)
        return Encoded(self.norm(x) * valid[:, :, None], lengths)

    def logits(self, encoded: Encoded) -> Encoded:
        """CTC scores `(B, S · emissions, V)` with their lengths; symbol 0 is the blank."""
        batch, length, _ = encoded.frames.shape
        emissions = self.head.out_features // self.num_symbols
        scores = self.head(encoded.frames).view(batch, length * emissions, self.num_symbols)
        return Encoded(scores, encoded.lengths * emissions)

    def halve(self, encoded: Encoded) -> Encoded:
        """Two frames side by side, `(B, ⌈S/2⌉, 2 D)`: 12.5 Hz, what the Thinker reads."""
        frames = encoded.frames
        if frames.shape[1] % 2:
            frames = torch.cat([frames, torch.zeros_like(frames[:, :1])], 1)
        batch, length, width = frames.shape
        return Encoded(frames.reshape(batch, length // 2, 2 * width), halve(encoded.lengths))


def training_flops(model: AudioEncoder, lengths: Tensor) -> float:
    """Floating-point operations of a forward and backward pass over utterances of these mel frames, padding not counted.

    6 × multiply parameters × positions, and 12 · D · S² a layer for attention.
    """
    half = ((lengths + 1) // 2).double()
    frames = ((lengths + 3) // 4).double()  # (B,)
    stem = model.subsampling
    per_frame = multiplied_weights(model.blocks, model.head)
    products = stem.first.weight.numel() * half + (stem.second.weight.numel() + per_frame) * frames
    attention = 12.0 * model.config.width * model.config.layers * frames.square()
    return float((6.0 * products + attention).sum())
