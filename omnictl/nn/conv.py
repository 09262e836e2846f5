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


def halve(lengths: Tensor) -> Tensor:
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
            lengths = halve(lengths)
            x = F.gelu(convolution(x))
            x = x * valid_mask(lengths, x.shape[2])[:, None]
        return x.mT, lengths

    def step(self, x: Tensor, inside: Tensor) -> Tensor:
        """The next frames of a stream.

        Args:
            x: `(1, 3 + 4 n, F)`: the last three frames before them, zeros at first, and the new ones, with zeros after the last.
            inside: `(2 n + 1,)`, 1 for frames of half the rate that belong to the stream, 0 before its first and after its last.

        Returns:
            `(1, n, D)`.
        """
        half = F.gelu(F.conv1d(x.mT, self.first.weight, self.first.bias, stride=2)) * inside  # (1, D, 2 n + 1)
        return F.gelu(F.conv1d(half, self.second.weight, self.second.bias, stride=2)).mT


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution over time, norm, SiLU, projection."""

    def __init__(self, width: int, kernel: int, eps: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = RMSNorm(width, eps)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None, chunk: int | None = None) -> Tensor:
        """Map `(B, S, D)` to `(B, S, D)`.

        Args:
            x: frames.
            valid: `(B, S)` bool, False where padded; None: nowhere.
            chunk: frames of a chunk, which silence follows (Li et al. 2023, "Dynamic Chunk Convolution"); None: all are one.
        """
        x = F.glu(self.in_proj(x), dim=-1)
        if valid is not None:
            x = x * valid[:, :, None]
        x = (self.depthwise(x.mT) if chunk is None else self._convolve_chunks(x.mT, chunk)).mT
        return self._finish(x)

    def step(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The next chunk `(B, n, D)` of a stream, of which nothing is known that follows.

        Args:
            x: its frames.
            before: `(B, D, kernel // 2)`, zeros at first, then what the last step returned.

        Returns:
            Its frames, and what the next step wants to know of them.
        """
        reach = before.shape[2]
        held = torch.cat([before, F.glu(self.in_proj(x), dim=-1).mT], 2)  # (B, D, reach + n)
        out = self._finish(self._convolve(F.pad(held, (0, reach))).mT)
        return out, held[:, :, held.shape[2] - reach :]

    def _convolve_chunks(self, x: Tensor, chunk: int) -> Tensor:
        """`(B, D, S)`."""
        batch, width, length = x.shape
        reach, chunks = self.depthwise.kernel_size[0] // 2, -(-length // chunk)
        padded = F.pad(x, (reach, chunks * chunk - length))
        pieces = padded.unfold(2, reach + chunk, chunk).transpose(1, 2).flatten(0, 1)  # (B N, D, reach + chunk)
        mixed = self._convolve(F.pad(pieces, (0, reach)))  # (B N, D, chunk)
        return mixed.view(batch, chunks, width, chunk).transpose(1, 2).flatten(2)[:, :, :length]

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.depthwise.weight, self.depthwise.bias, groups=x.shape[1])

    def _finish(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_proj(F.silu(self.norm(x)))
        return out


class TimeConv(nn.Module):
    """A convolution over time of `(B, T, D)` that keeps the length; a causal one sees the present and the past only."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, dilation: int = 1, causal: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.reach = (kernel - 1) * dilation
        self.padding = (self.reach, 0) if causal else (self.reach // 2, self.reach - self.reach // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, T, inputs)` to `(B, T, outputs)`."""
        out: Tensor = self.convolution(F.pad(x.mT, self.padding))
        return out.mT


class ResidualConv(nn.Module):
    """Norm, convolution over time, GELU, projection, added to the input; the projection starts as zero."""

    def __init__(
        self, width: int, kernel: int, eps: float, *, dilation: int = 1, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps)
        self.convolution = TimeConv(width, width, kernel, dilation=dilation, causal=causal)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map `(B, T, D)` to `(B, T, D)`; `valid` `(B, T)` marks what is not padding (None: all)."""
        read = self.norm(x) if valid is None else self.norm(x) * valid[:, :, None]
        added: Tensor = self.dropout(self.out_proj(F.gelu(self.convolution(read))))
        return x + added


def apply_layers(layers: nn.ModuleList, x: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T, D)` after residual convolutions one after the other, of which `(B,)` positions count."""
    valid = valid_mask(lengths, x.shape[1])
    for layer in layers:
        x = layer(x, valid)
    return x
