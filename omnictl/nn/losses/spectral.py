"""How far a sound is from another, by short-time spectra of several resolutions: phases are free, as they are to the ear.

Source: Yamamoto, Song and Kim 2020 (Parallel WaveGAN), section 2.2.
"""

import torch
from torch import Tensor

RESOLUTIONS = ((256, 64), (512, 128), (1024, 256))
"""Lengths of transform and hop, in samples."""

_SMALLEST = 1e-4
"""Magnitude below which nothing is heard."""


def spectral_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Spectral convergence and distance of log-magnitudes, mean over `RESOLUTIONS`, of sounds `(B, n)` each: `(B,)`."""
    total = made.new_zeros(len(made))
    for fft, hop in RESOLUTIONS:
        found, real = magnitudes(made, fft, hop), magnitudes(wanted, fft, hop)
        convergence = (found - real).square().sum((1, 2)).sqrt() / real.square().sum((1, 2)).sqrt().clamp(min=_SMALLEST)
        total = total + convergence + (found.log() - real.log()).abs().mean((1, 2))
    return total / len(RESOLUTIONS)


def magnitudes(samples: Tensor, fft: int, hop: int) -> Tensor:
    """`(B, bins, frames)` of `(B, n)`, never below what is heard."""
    window = torch.hann_window(fft, device=samples.device, dtype=samples.dtype)
    spectrum = torch.stft(samples, fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + _SMALLEST**2).sqrt()
