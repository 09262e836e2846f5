"""A small neural vocoder: log-mel frames to the spectrum of audio, magnitude and phase at once, and that to samples.

Source: Siuzdak 2023, "Vocos" (a stack of ConvNeXt blocks at the frames' rate and an inverse short-time Fourier transform, nothing
at the samples' rate), here without its adversary, and causal but for a few frames of look-ahead, so that it streams.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.nn.arithmetic import at_least_fp32, multiplied_weights
from omnictl.nn.audio.mel import RANGE, MelConfig
from omnictl.nn.audio.overlap_add import envelope, overlap_add

EPS = 1e-6

LOUDEST = 3.0
"""Natural logarithm of the largest magnitude of one frequency."""

LEAST_WEIGHT = 1e-2
"""Of windows at a sample: at the ends of a recording only their edges lie over it."""

CHUNK = 8
"""Frames made at a time in use."""

Past = list[Tensor]
"""`(B, kernel − 1, width)` the last frames that each convolution has seen."""


class VocoderConfig(Config):
    """Shape of a vocoder."""

    mel: MelConfig = MelConfig()
    width: int = Field(192, ge=1, le=100_000, description="channels of the convolutions")
    hidden: int = Field(576, ge=1, le=1_000_000, description="inner width of a block")
    layers: int = Field(6, ge=1, le=1_000, description="blocks")
    kernel: int = Field(7, ge=1, le=10_000, description="frames that a block sees, all but the last of them past")
    lookahead: int = Field(6, ge=0, le=10_000, description="mel frames after its own that a frame of audio is made from")


class Spectrum(NamedTuple):
    """A short-time spectrum as the network gives it."""

    magnitude: Tensor  # (B, T, fft / 2 + 1)
    phase: Tensor  # (B, T, fft / 2 + 1), any real number


class NeuralVocoder(nn.Module):
    """Log-mel frames in, samples out. `mean` and `std` of the training data are part of the weights."""

    mean: Tensor
    std: Tensor
    window: Tensor

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.mel.bins))
        self.register_buffer("std", torch.ones(config.mel.bins))
        self.register_buffer("window", torch.hann_window(config.mel.fft), persistent=False)
        self.inwards = nn.Conv1d(config.mel.bins, config.width, config.kernel)
        self.blocks = nn.ModuleList(ConvNeXt(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, EPS)
        self.head = nn.Linear(config.width, config.mel.fft + 2)

    def new_past(self) -> Past:
        """The past of the first frames: nothing."""
        config = self.config
        widths = [config.mel.bins, *[config.width] * config.layers]
        return [self.head.weight.new_zeros(1, config.kernel - 1, width) for width in widths]

    def forward(self, mel: Tensor) -> Tensor:
        """Samples `(B, T · hop)` of log-mels `(B, T, F)`, the first of them in the middle of the first frame."""
        ahead = F.pad(mel, (0, 0, 0, self.config.lookahead), value=-RANGE)
        spectrum = self.spectrum(ahead)
        return self.samples(Spectrum(*(part[:, self.config.lookahead :] for part in spectrum)))

    def spectrum(self, mel: Tensor, past: Past | None = None) -> Spectrum:
        """What frames of log-mels `(B, T, F)` say of the audio `lookahead` frames before each; `past` goes on to their end."""
        x = self.inwards(_after(past, 0, (mel - self.mean) / self.std, self.config.kernel - 1).mT).mT
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, past, number)
        outputs = self.head(self.norm(x))
        magnitude, phase = outputs.to(at_least_fp32(outputs.dtype)).chunk(2, -1)
        return Spectrum(magnitude.clamp(max=LOUDEST).exp(), phase)

    def samples(self, spectrum: Spectrum) -> Tensor:
        """Samples `(B, T · hop)`."""
        mel = self.config.mel
        pieces = self.pieces(spectrum)
        audio = overlap_add(pieces, mel.hop) / self.envelope(pieces.shape[1]).clamp(min=LEAST_WEIGHT)
        first = mel.fft // 2
        return audio[:, first : first + pieces.shape[1] * mel.hop]

    def pieces(self, spectrum: Spectrum) -> Tensor:
        """Windowed stretches of audio `(B, T, fft)`, one a frame."""
        made: Tensor = torch.fft.irfft(torch.polar(spectrum.magnitude, spectrum.phase), self.config.mel.fft) * self.window
        return made

    def envelope(self, frames: int) -> Tensor:
        """How much the windows of so many frames weigh at every sample, `((T − 1) · hop + fft,)`."""
        return envelope(self.window, frames, self.config.mel.hop)


class ConvNeXt(nn.Module):
    """Depthwise causal convolution over time, norm, two linear layers, added to the input (Liu et al. 2022)."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.reach = config.kernel - 1
        self.depthwise = nn.Conv1d(config.width, config.width, config.kernel, groups=config.width)
        self.norm = nn.LayerNorm(config.width, EPS)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.scale = nn.Parameter(torch.full((config.width,), 1 / config.layers))

    def forward(self, x: Tensor, past: Past | None, number: int) -> Tensor:
        """Map `(B, T, D)` to `(B, T, D)`; this block's part of the past has that number."""
        seen = self.depthwise(_after(past, number, x, self.reach).mT).mT
        added: Tensor = self.down(F.gelu(self.up(self.norm(seen))))
        return x + self.scale * added


def _after(past: Past | None, number: int, x: Tensor, reach: int) -> Tensor:
    """`(B, reach + T, D)` what a convolution sees: the past, or nothing, and then `(B, T, D)`, which becomes the past."""
    if past is None:
        return F.pad(x, (0, 0, reach, 0))
    seen = torch.cat([past[number], x], 1)
    past[number] = seen[:, seen.shape[1] - reach :]
    return seen


def training_flops(model: NeuralVocoder, frames: float) -> float:
    """Floating-point operations of a training step on so many mel frames, transforms not counted."""
    return 6.0 * frames * multiplied_weights(model)
