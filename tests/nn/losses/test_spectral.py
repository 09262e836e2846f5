"""The distance of two recordings, and overlap and add."""

import numpy as np
import torch

from omnictl.nn.audio.overlap_add import overlap_add
from omnictl.nn.losses.spectral import RESOLUTIONS, spectral_distance

NOISE = torch.randn(3, 4_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_recording_is_no_distance_from_itself() -> None:
    assert (spectral_distance(NOISE, NOISE) == 0).all()


def test_the_sign_is_not_heard_and_the_level_is() -> None:
    assert (spectral_distance(-NOISE, NOISE) < 1e-9).all()
    torch.testing.assert_close(
        spectral_distance(NOISE * np.e, NOISE), torch.full((3,), np.e, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_it_is_the_mean_over_resolutions_of_numpys_transform() -> None:
    made, wanted = NOISE[0], NOISE[1]
    total = 0.0
    for fft, hop in RESOLUTIONS:
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
        spectra = []
        for audio in (made, wanted):
            padded = np.pad(audio.numpy(), fft // 2)
            frames = [padded[start : start + fft] * window for start in range(0, len(padded) - fft + 1, hop)]
            spectra.append(np.sqrt(np.abs(np.fft.rfft(frames)) ** 2 + 1e-8))
        one, other = spectra
        total += np.sqrt(((one - other) ** 2).sum() / (other**2).sum()) + np.abs(np.log(one) - np.log(other)).mean()
    np.testing.assert_allclose(float(spectral_distance(made[None], wanted[None])), total / len(RESOLUTIONS), rtol=1e-6)


def test_overlap_and_add_is_a_loop() -> None:
    pieces = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 4 * 5 + 12)
    for number in range(5):
        expected[:, number * 5 : number * 5 + 12] += pieces[:, number]
    torch.testing.assert_close(overlap_add(pieces, 5), expected)
