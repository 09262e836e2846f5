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
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from omnictl.config.base import Config

RANGE = 8 * math.log(10)
"""80 dB of power, in nats."""

AUDIO_GAIN = 30.0
"""Of audio made from features: their loudest frame has power 1 in its loudest bin, which is quiet as audio."""

_SMALLEST = 1e-10


class MelConfig(Config):
    """How audio becomes features. Part of an encoder's config, so that it travels with the weights."""

    sample_rate: int = Field(16_000, ge=8_000, description="samples a second")
    window: int = Field(400, ge=2, le=1_000_000, description="samples that a frame sees (Hann)")
    hop: int = Field(160, ge=1, le=1_000_000, description="samples from frame to frame")
    fft: int = Field(512, ge=2, le=1_000_000, description="length of the Fourier transform")
    bins: int = Field(80, ge=1, le=10_000, description="mel bins")
    low_hz: float = Field(20.0, ge=0)
    high_hz: float = Field(7_600.0, gt=0)

    @model_validator(mode="after")
    def _settings_fit(self) -> "MelConfig":
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
    if power.max() <= _SMALLEST:  # digital silence has no loudest value to measure the others by
        return torch.full_like(power, -RANGE)
    log = power.clamp_(min=_SMALLEST).log_()
    return log.sub_(log.max()).clamp_(min=-RANGE)


def at_feature_level(samples: NDArray[np.float32], config: MelConfig) -> NDArray[np.float32]:
    """`(n,)` samples as loud as audio that is made from features, which do not hold the level of a recording."""
    loudest = float(_power(samples, config).max())
    return samples * np.float32(AUDIO_GAIN / math.sqrt(max(loudest, _SMALLEST)))


def _power(samples: NDArray[np.float32], config: MelConfig) -> Tensor:
    """`(T, F)`."""
    power: Tensor = _transform(config)(torch.from_numpy(samples)).T
    return power


def filterbank(config: MelConfig) -> Tensor:
    """How much each frequency of the transform counts in each mel bin, `(fft / 2 + 1, F)`."""
    bank: Tensor = _transform(config).mel_scale.fb
    return bank


@lru_cache(maxsize=4)
def _transform(config: MelConfig) -> MelSpectrogram:
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
            pad_mode="constant",
        )
