"""The distance of two signals by short-time spectra of several resolutions: phases do not count, as they do not to the ear.

Source: Yamamoto, Song and Kim 2020 (Parallel WaveGAN), section 2.2.
"""

import torch
from torch import Tensor

RESOLUTIONS = ((256, 64), (512, 128), (1024, 256))
"""Lengths of transform and hop, in samples."""

_SMALLEST = 1e-4
"""Magnitude below which nothing is heard."""


def spectral_distance(generated: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence and distance of log-magnitudes, mean over `RESOLUTIONS`, of samples `(B, n)` each: `(B,)`."""
    total = generated.new_zeros(len(generated))
    for fft, hop in RESOLUTIONS:
        ours, theirs = magnitudes(generated, fft, hop), magnitudes(target, fft, hop)
        convergence = (ours - theirs).square().sum((1, 2)).sqrt() / theirs.square().sum((1, 2)).sqrt().clamp(min=_SMALLEST)
        total = total + convergence + (ours.log() - theirs.log()).abs().mean((1, 2))
    return total / len(RESOLUTIONS)


def magnitudes(samples: Tensor, fft: int, hop: int) -> Tensor:
    """`(B, bins, frames)` of `(B, n)`, never below what is heard."""
    window = torch.hann_window(fft, device=samples.device, dtype=samples.dtype)
    spectrum = torch.stft(samples, fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + _SMALLEST**2).sqrt()
