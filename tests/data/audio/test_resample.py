import numpy as np
import pytest
import torch
from audio_files import NOISE, far, sine
from torchaudio.transforms import Resample

from omnictl.data.audio import resample as resampling
from omnictl.data.audio.resample import ResampleStream, resample


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (22_050, 24_000), (11, 10)])
@pytest.mark.parametrize("block", [1_000, 1 << 18])
def test_pieces_are_resampled_as_the_whole(monkeypatch, from_hz, to_hz, block):
    monkeypatch.setattr(resampling, "_BLOCK", block)
    expected = Resample(from_hz, to_hz)(torch.tensor(NOISE[:7_777])).numpy()
    samples = resample(NOISE[:7_777], from_hz, to_hz)
    assert samples.dtype == np.float32
    assert samples.shape == expected.shape
    assert far(samples, expected) < 1e-6


@pytest.mark.parametrize("num_samples", [0, 1, 2, 441, 442])
def test_lengths_are_rounded_up(num_samples):
    assert len(resample(NOISE[:num_samples], 44_100, 16_000)) == -(-num_samples * 160 // 441)


def test_the_same_rate_changes_nothing():
    assert np.array_equal(resample(NOISE, 16_000, 16_000), NOISE)


def test_speed_changes_length_and_pitch():
    faster = resample(sine(400, rate=16_000), 11, 10)
    assert len(faster) == -(-8_000 * 10 // 11)
    assert far(faster, sine(440, rate=16_000)[: len(faster)], edge=100) < 1e-3


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    assert np.abs(resample(sine(10_000, rate=48_000), 48_000, 16_000)[100:-100]).max() < 0.004
    assert np.abs(resample(sine(6_000, rate=48_000), 48_000, 16_000)[100:-100]).max() > 0.45


@pytest.mark.parametrize("from_hz", [44_101, 383_999, 16_001, 1_009, 15_999, 47_952])
def test_kernels_of_awkward_ratios_stay_small(from_hz):
    samples = resample(sine(200, rate=from_hz, seconds=1), from_hz, 16_000)
    assert abs(len(samples) - 16_000) <= 3
    kernel = getattr(resampling._resampler(from_hz, 16_000), "kernel", torch.empty(0))  # none where nothing is to be done
    assert kernel.numel() < 1.25 * resampling._MAX_KERNEL
    power = np.abs(np.fft.rfft(samples[:15_900] * np.hanning(15_900), 1 << 18))
    assert np.argmax(power) * 16_000 / (1 << 18) == pytest.approx(200, abs=0.1)


def test_kernels_are_kept():
    assert resampling._resampler(44_100, 16_000) is resampling._resampler(44_100, 16_000)


def test_samples_may_be_read_only():
    fixed = NOISE.copy()
    fixed.flags.writeable = False
    assert np.array_equal(resample(fixed, 2, 1), resample(NOISE, 2, 1))


@pytest.mark.parametrize(("from_hz", "to_hz"), [(16_000, 24_000), (24_000, 16_000), (100, 106), (89, 84), (16_000, 16_000)])
@pytest.mark.parametrize("size", [1, 7, 160, 10_000])
def test_a_stream_is_resampled_as_the_whole(from_hz: int, to_hz: int, size: int) -> None:
    samples = np.random.default_rng(0).standard_normal(1_003).astype(np.float32)
    stream = ResampleStream(from_hz, to_hz)
    pieces = [stream.push(samples[start : start + size]) for start in range(0, len(samples), size)]
    made = np.concatenate([*pieces, stream.finish()])
    np.testing.assert_allclose(made, resample(samples, from_hz, to_hz), atol=1e-5)


def test_an_empty_stream_gives_nothing() -> None:
    assert len(ResampleStream(16_000, 24_000).finish()) == 0
