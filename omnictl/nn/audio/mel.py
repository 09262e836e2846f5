"""Log-mel features: the one function that turns audio into what an audio encoder reads, in training, evaluation and chat.

    x = ln max(mel · |STFT|², ε),   feature = max(x − max x, −RANGE)

The level is taken out (the loudest value of an utterance becomes 0), so that a quiet recording reads like a loud one; what lies
more than 80 dB below is silence (the range Whisper keeps, Radford et al. 2022).
"""

import math
import warnings
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from omnictl.config.base import Config

RANGE = 8 * math.log(10)
"""80 dB of power, in nats."""

AUDIO_GAIN = 30.0
"""Of audio made from features: their loudest frame has power 1 in its loudest bin, which is quiet as audio."""

SMALLEST_POWER = 1e-10
"""Powers below are taken for this."""


class MelConfig(Config):
    """How audio becomes features. Part of an encoder's config, so that it travels with the weights."""

    sample_rate: int = Field(16_000, ge=8_000, description="samples a second")
    window: int = Field(400, ge=2, le=1_000_000, description="samples that a frame sees (Hann)")
    hop: int = Field(160, ge=1, le=1_000_000, description="samples from frame to frame")
    fft: int = Field(512, ge=2, le=1_000_000, description="length of the Fourier transform")
    bins: int = Field(80, ge=1, le=10_000, description="mel bins")
    low_hz: float = Field(20.0, ge=0, description="lower edge of the lowest bin")
    high_hz: float = Field(7_600.0, gt=0, description="upper edge of the highest bin")

    @model_validator(mode="after")
    def _settings_fit(self) -> "MelConfig":
        if self.fft % 2:  # an inverse transform could not tell
            raise ValueError(f"fft {self.fft} must be even, such as {self.fft + 1}")
        if self.window > self.fft:
            raise ValueError(f"window {self.window} exceeds fft {self.fft}")
        if self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz {self.low_hz:g} must be below high_hz {self.high_hz:g}")
        if self.high_hz > self.sample_rate / 2:  # bins above would never hear anything
            raise ValueError(f"high_hz {self.high_hz:g} exceeds half the sample rate, {self.sample_rate / 2:g}")
        return self

    @property
    def frames_hz(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    @property
    def as_text(self) -> str:
        """Sample rate, bins and frame rate in words."""
        band = f"{self.bins} bins from {self.low_hz:g} to {self.high_hz:g} Hz"
        return f"{self.sample_rate:,} Hz in {band}, {self.frames_hz:g} frames a second"


def log_mel(samples: NDArray[np.float32], config: MelConfig) -> Tensor:
    """Features of one recording.

    Args:
        samples: `(n,)` mono, at the config's sample rate, n ≥ 1.
        config: the features' settings.

    Returns:
        `(1 + n // hop, F)` fp32, from -18.4 (silence) to 0 (the loudest).
    """
    power = _power(samples, config)
    if power.max() <= SMALLEST_POWER:  # digital silence has no loudest value to measure the others by
        return torch.full_like(power, -RANGE)
    log = power.clamp_(min=SMALLEST_POWER).log_()
    return log.sub_(log.max()).clamp_(min=-RANGE)


def level_by_chunks(features: Tensor, lengths: Tensor, size: int, least: float = -RANGE / 2) -> Tensor:
    """Features with the level that was known when they were heard: of a stream nobody knows how loud it will become.

    Args:
        features: `(B, T, F)` logarithms of power, as `log_mel` gives them or before it takes the level out.
        lengths: `(B,)` frames of each that count.
        size: frames of a chunk; the loudest value of a chunk and of those before it becomes 0.
        least: what counts as loudest where nothing was as loud yet.

    Returns:
        `(B, T, F)`, from -18.4.
    """
    batch, length, _ = features.shape
    inside = torch.arange(length, device=features.device) < lengths[:, None]
    loudest = features.amax(-1).masked_fill(~inside, -torch.inf)  # (B, T)
    chunks = F.pad(loudest, (0, -length % size), value=-torch.inf).view(batch, -1, size)  # (B, N, size)
    level = chunks.amax(-1).cummax(-1).values.clamp(min=least).repeat_interleave(size, 1)[:, :length]
    return (features - level[:, :, None]).clamp(min=-RANGE)


def at_feature_level(samples: NDArray[np.float32], config: MelConfig) -> NDArray[np.float32]:
    """`(n,)` samples as loud as audio that is made from features, which do not hold the level of a recording."""
    loudest = float(_power(samples, config).max())
    return samples * np.float32(AUDIO_GAIN / math.sqrt(max(loudest, SMALLEST_POWER)))


QUIETEST_LOUDEST = -3.0
"""The loudest value of a stream, before the level is taken out, is at least this: a whisper's. What is quieter stays quiet."""


class MelStream:
    """Log-mels of audio that comes in pieces, a chunk at a time; they are those of `level_by_chunks` however the audio is cut.

    Args:
        config: the features' settings.
        size: frames of a chunk.
    """

    def __init__(self, config: MelConfig, size: int) -> None:
        self._config, self._size = config, size
        self._samples = np.zeros(config.fft // 2, np.float32)  # that frames to come see; silence before the first
        self._frames = torch.empty(0, config.bins)  # (n, F) of the chunk that is not whole yet
        self._loudest = QUIETEST_LOUDEST

    def push(self, samples: NDArray[np.float32]) -> list[Tensor]:
        """Take `(n,)` more samples; the chunks `(size, F)` that are whole now."""
        self._samples = np.concatenate([self._samples, samples])
        count = (len(self._samples) - self._config.fft) // self._config.hop + 1
        if count > 0:
            reach = (count - 1) * self._config.hop + self._config.fft
            power = _transform(self._config, centred=False)(torch.from_numpy(self._samples[:reach])).T
            self._frames = torch.cat([self._frames, power.clamp_(min=SMALLEST_POWER).log_()])
            self._samples = self._samples[count * self._config.hop :]
        starts = range(0, len(self._frames) - self._size + 1, self._size)
        chunks = [self._frames[start : start + self._size] for start in starts]
        self._frames = self._frames[len(chunks) * self._size :]
        return [self._level(chunk) for chunk in chunks]

    def finish(self) -> list[Tensor]:
        """The chunks that are left, the last one perhaps shorter."""
        chunks = self.push(np.zeros(self._config.fft // 2, np.float32))
        rest, self._frames = self._frames, self._frames[:0]
        return [*chunks, self._level(rest)] if len(rest) else chunks

    def _level(self, chunk: Tensor) -> Tensor:
        self._loudest = max(self._loudest, float(chunk.max()))
        return (chunk - self._loudest).clamp_(min=-RANGE)


def _power(samples: NDArray[np.float32], config: MelConfig) -> Tensor:
    """`(T, F)`."""
    power: Tensor = _transform(config)(torch.from_numpy(samples)).T
    return power


def filterbank(config: MelConfig) -> Tensor:
    """How much each frequency of the transform counts in each mel bin, `(fft / 2 + 1, F)`."""
    bank: Tensor = _transform(config).mel_scale.fb
    return bank


@lru_cache(maxsize=8)
def _transform(config: MelConfig, *, centred: bool = True) -> MelSpectrogram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that some narrow low bins see no frequency of the transform
        return MelSpectrogram(
            config.sample_rate,
            n_fft=config.fft,
            win_length=config.window,
            hop_length=config.hop,
            f_min=config.low_hz,
            f_max=config.high_hz,
            n_mels=config.bins,
            center=centred,
            pad_mode="constant",
        )
