"""Convolutions over time that padding cannot leak into.

Sources: Gulati et al. 2020 (Conformer's convolution module; here with RMSNorm instead of batch norm, whose statistics would
depend on how a batch is split), Dauphin et al. 2017 (gated linear units).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnictl.nn.transformer import RMSNorm

SUBSAMPLING = 4
"""Frames that go in for one that comes out of `Subsampling`."""


def valid_mask(lengths: Tensor, longest: int) -> Tensor:
    """`(B, S)` bool, True where position s of a row belongs to it."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def halved(lengths: Tensor) -> Tensor:
    """Lengths after one convolution of stride 2."""
    return (lengths + 1) // 2


class Subsampling(nn.Module):
    """Two convolutions of stride 2 over time: a quarter of the frames, each of width D."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(bins, width, kernel_size=3, stride=2, padding=1)
        self.second = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, T, F)`, zero where padded, to `(B, ⌈T/4⌉, D)`; returns the new lengths too."""
        x = x.mT  # (B, F, T)
        for convolution in (self.first, self.second):
            lengths = halved(lengths)
            x = F.gelu(convolution(x))
            x = x * valid_mask(lengths, x.shape[2])[:, None]
        return x.mT, lengths


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution over time, norm, SiLU, projection."""

    def __init__(self, width: int, kernel: int, eps: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = RMSNorm(width, eps)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map `(B, S, D)` to `(B, S, D)`; `valid` `(B, S)` marks what is not padding (None: all)."""
        x = F.glu(self.in_proj(x), dim=-1)
        if valid is not None:
            x = x * valid[:, :, None]
        x = self.depthwise(x.mT).mT
        out: Tensor = self.out_proj(F.silu(self.norm(x)))
        return out
