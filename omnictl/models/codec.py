"""The codec: log-mel frames to a few codes and back.

Convolutions halve the frame rate until it is the codes', a residual vector quantiser turns every frame into one code a book, and a
causal decoder turns codes back into mel frames, so that speech can be made as it is written. Sources: van den Oord et al. 2017
(VQ-VAE), Zeghidour et al. 2021 (SoundStream's residual quantiser). Left out on purpose: a decoder to samples (a vocoder's work) and
an adversary.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.nn.arithmetic import multiplied_weights
from omnictl.nn.audio.mel import RANGE, MelConfig
from omnictl.nn.conv import ResidualConv, TimeConv
from omnictl.nn.rvq import QuantiserConfig, ResidualQuantiser

KERNEL = 3
"""Frames that a convolution sees."""

EPS = 1e-6


class CodecConfig(Config):
    """Shape of a codec."""

    mel: MelConfig = MelConfig()
    stride: int = Field(4, ge=1, le=10_000, description="mel frames that one frame of codes stands for: 4 is 25 Hz, 8 is 12.5 Hz")
    width: int = Field(192, ge=1, le=100_000, description="channels of the convolutions")
    layers: int = Field(3, ge=1, le=1_000, description="residual convolutions at the codes' rate, in encoder and decoder each")
    fine_layers: int = Field(
        2, ge=1, le=1_000, description="residual convolutions at the mel frames' rate, in encoder and decoder each"
    )
    quantiser: QuantiserConfig = QuantiserConfig()

    @model_validator(mode="after")
    def _stride_halves(self) -> "CodecConfig":
        if self.stride & (self.stride - 1):
            raise ValueError(f"stride {self.stride} must be a power of two")
        return self

    @property
    def frames_hz(self) -> float:
        """Frames of codes a second."""
        return self.mel.frames_hz / self.stride

    @property
    def bits_per_second(self) -> float:
        """Nominal rate: every code equally likely."""
        return self.frames_hz * self.quantiser.books * float(torch.log2(torch.tensor(self.quantiser.codes)))


class CodecOutput(NamedTuple):
    """What the codec made of a batch in training."""

    mel: Tensor  # (B, T, F) reconstruction, in the scale of `Codec.normalised`
    codes: Tensor  # (B, K, S)
    commitment: Tensor  # (B, S)


class Codec(nn.Module):
    """Mel frames in, mel frames out, codes between. `mean` and `std` of the training data are part of the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.mel.bins))
        self.register_buffer("std", torch.ones(config.mel.bins))
        self.encoder = CodecEncoder(config)
        self.quantiser = ResidualQuantiser(config.quantiser)
        self.decoder = Decoder(config)

    def normalise(self, mel: Tensor) -> Tensor:
        """Log-mels `(…, F)` with zero mean and unit deviation in every bin."""
        return (mel - self.mean) / self.std

    def forward(self, mel: Tensor, books: Tensor | None = None) -> CodecOutput:
        """Encode and decode log-mels `(B, T, F)`, T a multiple of the stride, with the first `books` `(B,)` books of each row."""
        quantised = self.quantiser(self.encoder(self.normalise(mel)), books)
        return CodecOutput(self.decoder(quantised.values), quantised.codes, quantised.commitment)

    def encode(self, mel: Tensor) -> Tensor:
        """Codes `(B, K, ⌈T / stride⌉)` of log-mels `(B, T, F)`; silence fills up the last frame."""
        missing = -mel.shape[1] % self.config.stride
        filled = F.pad(mel, (0, 0, 0, missing), value=-RANGE)
        codes: Tensor = self.quantiser.encode(self.encoder(self.normalise(filled)))
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Log-mels `(B, S · stride, F)` of codes `(B, k, S)`, k of the K books or all of them."""
        mel: Tensor = self.decoder(self.quantiser.decode(codes)) * self.std + self.mean
        return mel.clamp(-RANGE, 0.0)

    @property
    def memory(self) -> int:
        """Frames of codes before its own that a mel frame can depend on."""
        frames: int = self.decoder.memory
        return frames

    def stream(self, frames: "Iterator[Tensor]") -> Iterator[Tensor]:
        """The same mel frames as `decode`, `stride` of them, `(stride, F)`, for each frame of codes `(K,)` as it comes."""
        held: list[Tensor] = []
        for codes in frames:
            held = [*held[-self.memory :], codes]
            yield self.decode(torch.stack(held, -1)[None])[0, -self.config.stride :]


class CodecEncoder(nn.Module):
    """Normalised mel frames to what is quantised."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        halvings = config.stride.bit_length() - 1
        width = config.width
        self.inwards = TimeConv(config.mel.bins, width, KERNEL)
        self.fine = nn.Sequential(*(ResidualConv(width, KERNEL, EPS, dilation=2**i) for i in range(config.fine_layers)))
        self.halve = nn.Sequential(*(Halving(width) for _ in range(halvings)))
        self.coarse = nn.Sequential(*(ResidualConv(width, KERNEL, EPS) for _ in range(config.layers)))
        self.outwards = nn.Linear(width, config.quantiser.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, T, F)` to `(B, T / stride, D)`."""
        out: Tensor = self.outwards(self.coarse(self.halve(self.fine(self.inwards(x)))))
        return out


class Halving(nn.Module):
    """Two frames become one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, T, D)`, T even, to `(B, T / 2, D)`."""
        batch, length, width = x.shape
        return F.gelu(self.proj(x.reshape(batch, length // 2, 2 * width)))


class Decoder(nn.Module):
    """What was quantised back to normalised mel frames, each from the present and the past alone."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.width
        dilations = [2**i for i in range(config.fine_layers)]
        self.stride = config.stride
        self.inwards = TimeConv(config.quantiser.width, width, KERNEL, causal=True)
        self.coarse = nn.Sequential(*(ResidualConv(width, KERNEL, EPS, causal=True) for _ in range(config.layers)))
        self.spread = nn.Linear(width, config.stride * width)
        self.fine = nn.Sequential(*(ResidualConv(width, KERNEL, EPS, dilation=d, causal=True) for d in dilations))
        self.outwards = nn.Linear(width, config.mel.bins)
        coarse, fine = (1 + config.layers) * (KERNEL - 1), sum(dilations) * (KERNEL - 1)
        self.memory = coarse + -(-fine // config.stride)

    def forward(self, values: Tensor) -> Tensor:
        """Map `(B, S, D)` to `(B, S · stride, F)`."""
        x = self.spread(self.coarse(self.inwards(values)))
        x = x.reshape(x.shape[0], x.shape[1] * self.stride, -1)
        out: Tensor = self.outwards(self.fine(x))
        return out


def training_flops(model: Codec, frames: float) -> float:
    """Floating-point operations of a forward and backward pass over so many mel frames, the search for codes included."""
    config = model.config
    fine = multiplied_weights(model.encoder.inwards, model.encoder.fine, model.decoder.fine, model.decoder.outwards)
    coarse = multiplied_weights(
        model.encoder.coarse, model.encoder.outwards, model.decoder.inwards, model.decoder.coarse, model.decoder.spread
    )
    halving = sum(multiplied_weights(layer) / 2 ** (i + 1) for i, layer in enumerate(model.encoder.halve))
    search: float = config.quantiser.books * config.quantiser.codes * config.quantiser.width
    return float(frames * (6.0 * (fine + halving + coarse / config.stride) + 2.0 * search / config.stride))
