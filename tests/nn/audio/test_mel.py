"""Log-mel features against their formula, written out in numpy."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from omnictl.nn.audio.mel import RANGE, MelConfig, log_mel

CONFIGS = {
    "default": MelConfig(),
    "odd": MelConfig(sample_rate=22_050, window=551, hop=221, fft=1024, bins=40, low_hz=0.0, high_hz=11_025.0),
    "telephone": MelConfig(sample_rate=8_000, window=200, hop=80, fft=200, bins=13, low_hz=100.0, high_hz=3_800.0),
}


def mel_of(hertz: float) -> float:
    """O'Shaughnessy 1987."""
    return 2595 * math.log10(1 + hertz / 700)


def triangles(config: MelConfig) -> NDArray[np.float64]:
    """`(fft / 2 + 1, F)`: each bin rises from its lower neighbour's centre to 1 at its own and falls to the upper one's."""
    mels = np.linspace(mel_of(config.low_hz), mel_of(config.high_hz), config.bins + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    hertz = np.arange(config.fft // 2 + 1) * config.sample_rate / config.fft
    columns = []
    for low, centre, high in zip(corners, corners[1:], corners[2:], strict=False):
        columns.append(np.clip(np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)), 0, None))
    return np.stack(columns, 1)


def reference(samples: NDArray[np.float32], config: MelConfig) -> NDArray[np.float64]:
    """Frame t is centred on sample t · hop; silence lies before and after."""
    around = config.fft // 2
    padded = np.concatenate([np.zeros(around), samples, np.zeros(around)])
    window = np.zeros(config.fft)
    start = (config.fft - config.window) // 2
    window[start : start + config.window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / config.window)  # Hann
    frames = [padded[t * config.hop : t * config.hop + config.fft] * window for t in range(1 + len(samples) // config.hop)]
    power = np.abs(np.fft.rfft(np.stack(frames))) ** 2 @ triangles(config)
    log = np.log(np.maximum(power, 1e-10))
    features: NDArray[np.float64] = np.maximum(log - log.max(), -80 * math.log(10) / 10)
    return features


def sweep(seconds: float, rate: int) -> NDArray[np.float32]:
    """A tone that rises through all frequencies and swells, with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (100 * time + 0.45 * rate / 2 * time**2 / seconds)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return ((0.1 + time) * np.sin(phase) * 0.5 + 1e-3 * noise).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_features_are_what_the_formula_says(name: str) -> None:
    config = CONFIGS[name]
    samples = sweep(0.7, config.sample_rate)
    expected = reference(samples, config)
    found = log_mel(samples, config)
    assert found.dtype == torch.float32
    assert found.shape == (1 + len(samples) // config.hop, config.bins)
    assert np.ptp(expected) > 5
    assert np.abs(found.numpy() - expected).max() < 1e-3


@pytest.mark.parametrize("length", [1, 2, 159, 160, 161, 16_000])
def test_a_frame_starts_every_hop(length: int) -> None:
    config = MelConfig()
    found = log_mel(sweep(length / 16_000, 16_000), config)
    assert found.shape == (1 + length // 160, 80)
    assert found.isfinite().all()
    assert found.max() == 0
    assert config.frames_hz == 100


def test_the_level_makes_no_difference() -> None:
    samples = sweep(0.5, 16_000)
    loud = log_mel(samples, MelConfig())
    for gain in (0.5, 0.1, 0.01):
        assert (log_mel(samples * np.float32(gain), MelConfig()) - loud).abs().max() < 1e-3


def test_what_is_far_below_the_loudest_is_silence() -> None:
    samples = sweep(0.5, 16_000)
    samples[:4_000] *= 1e-6
    found = log_mel(samples, MelConfig())
    assert pytest.approx(8 * math.log(10)) == RANGE
    assert (found[:20] == torch.tensor(-RANGE)).all()
    assert found.min() == torch.tensor(-RANGE)


@pytest.mark.parametrize("level", [0.0, 1e-20, 1e-7])
def test_silence_is_finite(level: float) -> None:
    found = log_mel(np.full(3_200, level, np.float32), MelConfig())
    assert found.isfinite().all()


def test_digital_silence_is_silence() -> None:
    assert (log_mel(np.zeros(3_200, np.float32), MelConfig()) == torch.tensor(-RANGE)).all()


def test_a_tone_is_loudest_in_its_bin() -> None:
    config = MelConfig()
    centres = triangles(config).argmax(0) * config.sample_rate / config.fft
    for bin_ in (20, 50, 75):
        tone = np.sin(2 * np.pi * centres[bin_] * np.arange(16_000) / 16_000).astype(np.float32)
        assert int(log_mel(tone, config)[50].argmax()) == bin_


def test_the_audio_is_left_as_it_was() -> None:
    samples = sweep(0.1, 16_000)
    before = samples.copy()
    log_mel(samples, MelConfig())
    assert np.array_equal(samples, before)


@pytest.mark.parametrize("change", [{"sample_rate": 100}, {"hop": 0}, {"bins": 0}, {"window": 1}, {"frames": 3}])
def test_settings_that_make_no_sense_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        MelConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fft": 511}, "fft 511 must be even, such as 512"),
        ({"window": 513}, "window 513 exceeds fft 512"),
        ({"low_hz": 7_600.0}, "low_hz 7600 must be below high_hz 7600"),
        ({"high_hz": 8_001.0}, "high_hz 8001 exceeds half the sample rate, 8000"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MelConfig(**change)
    assert message in str(caught.value)
