"""Rooms and microphones: what happens to a clean voice before it is a recording."""

import numpy as np
from numpy.typing import NDArray

from omnictl.tinyworld.speech.utterances import Utterance

Samples = NDArray[np.float32]


def record(voice: Samples, utterance: Utterance, rate: int) -> Samples:
    """A voice as recorded: after its lead, with echo, noise and level.

    Args:
        voice: `(n,)` clean speech.
        utterance: whose room and microphone are applied.
        rate: samples a second.

    Returns:
        `(lead + n,)` samples in [-1, 1].
    """
    rng = np.random.default_rng(utterance.seed)
    samples = np.concatenate([np.zeros(round(utterance.lead_seconds * rate), np.float32), voice])
    if utterance.reverb > 0:
        samples = samples + utterance.reverb * _echo(samples, utterance.reverb_seconds, rate, rng)
    level = np.sqrt(np.mean(np.square(voice))) + 1e-9
    noise = _noise(len(samples), utterance.noise_tilt, rng)
    samples = samples + noise * np.float32(level * 10 ** (-utterance.snr_db / 20))
    peak = np.float32(10 ** (utterance.gain_db / 20) * 0.9)
    recorded: Samples = (samples * (peak / np.abs(samples).max())).astype(np.float32)
    return recorded


def _echo(samples: Samples, seconds: float, rate: int, rng: np.random.Generator) -> Samples:
    """The audio in a room whose echo is decaying noise (Schroeder 1979): 60 dB less after `seconds`, as loud as the voice."""
    length = round(seconds * rate)
    decay = 1000 ** -(np.arange(length) / length)
    response = rng.standard_normal(length) * decay
    response /= np.sqrt(np.sum(np.square(response)))
    size = _fast_length(len(samples) + length)
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def _noise(length: int, tilt: float, rng: np.random.Generator) -> Samples:
    """`(length,)` noise of unit power whose power falls with frequency to the power of `tilt`."""
    size = _fast_length(length)
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-tilt / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, size)[:length]
    unit: Samples = (noise / np.sqrt(np.mean(np.square(noise)))).astype(np.float32)
    return unit


def _fast_length(length: int) -> int:
    """The next length that is a power of two times 2, 3, 4, 5 eighths …: transforms of others may be slow."""
    step = 1 << max(0, length.bit_length() - 4)
    return -(-length // step) * step
