"""The aligner: which symbol of its text each stretch of an utterance belongs to.

Two small convolutional encoders, one over mel frames and one over symbols, meet in a matrix of distances: every frame, 20 ms of
audio, has a distribution over the symbols of its own text. Trained by the forward sum over all monotonic paths it needs no
alignment to learn from; what comes out are durations. Source: Badlani et al. 2022, "One TTS Alignment To Rule Them All".
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.nn.arithmetic import at_least_fp32, multiplied_weights
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.audio.symbol_durations import likeliest_durations
from omnictl.nn.conv import ResidualConv, TimeConv, apply_layers, valid_mask
from omnictl.nn.losses.monotonic import beta_binomial_prior

STRIDE = 2
"""Mel frames that one frame of the alignment stands for: 50 Hz with 10 ms mels."""

KERNEL = 3
EPS = 1e-6


class AlignerConfig(Config):
    """Shape of an aligner."""

    mel: MelConfig = MelConfig()
    width: int = Field(128, ge=1, le=100_000, description="channels of the convolutions")
    layers: int = Field(2, ge=1, le=1_000, description="residual convolutions in each of the two encoders")
    prior: float = Field(1.0, ge=0, description="weight of the prior that favours the diagonal")


class AlignerOutput(NamedTuple):
    """The scores of a batch's symbols in each frame."""

    log_probs: Tensor  # (B, S, T) of every position of the text, frame by frame
    lengths: Tensor  # (B,) frames at 50 Hz


class Aligner(nn.Module):
    """Mel frames and symbols in, distributions over positions out."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AlignerConfig, num_symbols: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("mean", torch.zeros(config.mel.bins))
        self.register_buffer("std", torch.ones(config.mel.bins))
        self.symbols = nn.Embedding(num_symbols, width)
        self.text = nn.ModuleList(ResidualConv(width, KERNEL, EPS) for _ in range(config.layers))
        self.key = nn.Linear(width, width)
        self.inwards = TimeConv(config.mel.bins, width, KERNEL)
        self.halve = nn.Linear(STRIDE * width, width)
        self.sound = nn.ModuleList(ResidualConv(width, KERNEL, EPS) for _ in range(config.layers))
        self.query = nn.Linear(width, width)

    def forward(self, mel: Tensor, lengths: Tensor, symbols: Tensor, symbol_lengths: Tensor) -> AlignerOutput:
        """Compare a batch of utterances `(B, T', F)` of `lengths` mel frames with their texts `(B, T)`."""
        frames, inside = -(-lengths // STRIDE), valid_mask(symbol_lengths, symbols.shape[1])
        queries = self.query(apply_layers(self.sound, self._frames(mel, lengths), frames))  # (B, S, D)
        keys = self.key(apply_layers(self.text, self.symbols(symbols), symbol_lengths))  # (B, T, D)
        with torch.autocast(mel.device.type, enabled=False):
            wide = at_least_fp32(queries.dtype)
            queries, keys = queries.to(wide), keys.to(wide)
            near = 2 * queries @ keys.mT - keys.square().sum(-1)[:, None]  # what the square of the query adds is the same for all
            prior = beta_binomial_prior(frames.cpu(), symbol_lengths.cpu(), near.shape[1], near.shape[2]).to(near)
            scores = near / self.config.width**0.5 + self.config.prior * prior
            return AlignerOutput(scores.masked_fill(~inside[:, None], -1e4).log_softmax(-1), frames)

    def _frames(self, mel: Tensor, lengths: Tensor) -> Tensor:
        inside = valid_mask(lengths, mel.shape[1])[:, :, None]
        x = F.gelu(self.inwards(((mel - self.mean) / self.std).masked_fill(~inside, 0.0))) * inside
        x = F.pad(x, (0, 0, 0, -x.shape[1] % STRIDE))
        return F.gelu(self.halve(x.reshape(len(x), x.shape[1] // STRIDE, -1)))


def durations(output: AlignerOutput, symbol_lengths: Tensor) -> list[NDArray[np.int64]]:
    """Frames at 50 Hz of every symbol of each text, `(T,)` each, that add up to the utterance."""
    lengths, texts = output.lengths.cpu().numpy(), symbol_lengths.cpu().numpy()
    spread = likeliest_durations(output.log_probs.detach().float().cpu().numpy(), lengths, texts)
    return [row[:length] for row, length in zip(spread, texts, strict=True)]


def training_flops(model: Aligner, lengths: Tensor, symbol_lengths: Tensor) -> float:
    """Floating-point operations of a training step on utterances of these mel frames and symbols, padding not counted."""
    frames, symbols = lengths.double(), symbol_lengths.double()
    audio = multiplied_weights(model.inwards) * frames + multiplied_weights(model.halve, model.sound, model.query) * frames / STRIDE
    pairs = model.config.width * frames / STRIDE * symbols
    return float((6.0 * (audio + multiplied_weights(model.text, model.key) * symbols + pairs)).sum())
