"""The same audio at another sample rate, a piece at a time."""

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.transforms import Resample  # type: ignore[import-untyped, unused-ignore]

_BLOCK = 1 << 18
"""Samples that are resampled at once."""
_MAX_KERNEL = 1 << 20
"""Values of a resampling kernel. 44,100 → 16,000 Hz takes 70,000; 44,101 → 16,000 Hz would take 700 million."""


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """The same audio at another rate; as `resample_blocks`, of `(samples,)` that are all there."""
    return resample_blocks(iter([samples]), len(samples), from_hz, to_hz)


def resample_blocks(blocks: Iterator[NDArray[np.float32]], count: int, from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """The same audio at another rate, by windowed sinc interpolation (`torchaudio.transforms.Resample`).

    Only the ratio counts, so this also changes speed and pitch: 1.1 times as fast is `resample(samples, 11, 10)`.
    A ratio of large numbers is rounded (see `_resampler`).

    Args:
        blocks: (samples,) each, of any length; memory is bounded by the longest and the result, a piece is converted at a time.
        count: samples of all blocks.
        from_hz: their rate.
        to_hz: rate of the result.

    Returns:
        (samples × to_hz / from_hz, rounded up,)
    """
    convert = _resampler(from_hz, to_hz)
    down, up = int(convert.orig_freq), int(convert.new_freq)
    if down == up:
        parts = list(blocks)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    # `down` samples in are `up` samples out, with the same kernels every time: a period. A kernel reaches `width` samples far.
    result = np.empty(-(-count * up // down), np.float32)
    reach = -(-int(convert.width) // down)
    num_periods = -(-count // down)
    window = _Window(blocks)
    step = max(1, min(num_periods, _BLOCK // max(down, up)))
    for first in range(0, num_periods, step):
        start = (first - reach) * down
        piece = torch.zeros((step + 2 * reach) * down)
        inside = window.cut(max(start, 0), start + len(piece))
        piece[max(-start, 0) :][: len(inside)] = torch.tensor(inside)
        fresh = convert(piece)[reach * up : (reach + step) * up].numpy()
        result[first * up : (first + step) * up] = fresh[: len(result) - first * up]
    return result


class _Window:
    """The part of a stream of blocks that is looked at, which only moves forwards."""

    def __init__(self, blocks: Iterator[NDArray[np.float32]]) -> None:
        self._blocks, self._held, self._first = blocks, np.empty(0, np.float32), 0

    def cut(self, start: int, stop: int) -> NDArray[np.float32]:
        """Samples `start` to `stop` of all, or up to the last one."""
        parts = [self._held[start - self._first :]]
        end = self._first + len(self._held)
        while end < stop and (block := next(self._blocks, None)) is not None:
            parts.append(block[max(0, start - end) :])
            end += len(block)
        self._held, self._first = parts[0] if len(parts) == 1 else np.concatenate(parts), start
        return self._held[: stop - start]


@lru_cache(maxsize=32)
def _resampler(from_hz: int, to_hz: int) -> Resample:
    """The kernels between two rates.

    They are as many values as the product of the reduced rates, 2.8 GB between 44,101 and 16,000 Hz. Such a ratio is replaced by
    the nearest that takes a million: usually a part in a million off, at worst one in eight thousand. Sound cards are no truer.
    """
    low, high = sorted((from_hz, to_hz))
    ratio = Fraction(low, high).limit_denominator(isqrt(_MAX_KERNEL * high // low))
    if from_hz <= to_hz:
        return Resample(ratio.numerator, ratio.denominator)
    return Resample(ratio.denominator, ratio.numerator)


class ResampleStream:
    """`resample` of a sound that comes in pieces; however it is cut, the result is the same but for rounding.

    Args:
        from_hz: rate of what comes in.
        to_hz: rate of what goes out.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._convert = _resampler(from_hz, to_hz)
        self._down, self._up = int(self._convert.orig_freq), int(self._convert.new_freq)
        self._reach = 0 if self._down == self._up else -(-int(self._convert.width) // self._down)  # periods in view on each side
        self._held = np.zeros(self._reach * self._down, np.float32)
        self._taken = self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take `(n,)` samples; gives those `(m,)` that are final now."""
        if self._down == self._up:
            return samples
        self._taken += len(samples)
        self._held = np.concatenate([self._held, samples])
        return self._make(len(self._held) // self._down - 2 * self._reach)

    def finish(self) -> NDArray[np.float32]:
        """The samples that are left."""
        missing = -(-self._taken * self._up // self._down) - self._given
        periods = -(-missing // self._up)
        silence = np.zeros((periods + 2 * self._reach) * self._down, np.float32)
        self._held = np.concatenate([self._held, silence])
        return self._make(periods)[:missing]

    def _make(self, periods: int) -> NDArray[np.float32]:
        if periods <= 0:
            return np.zeros(0, np.float32)
        piece = self._held[: (periods + 2 * self._reach) * self._down]
        made: NDArray[np.float32] = self._convert(torch.from_numpy(piece))[self._reach * self._up :][: periods * self._up].numpy()
        self._held = self._held[periods * self._down :]
        self._given += len(made)
        return made
