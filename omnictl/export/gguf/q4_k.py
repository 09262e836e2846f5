"""Q4_K: numbers in 4.5 bits each, in llama.cpp's format. The `gguf` package reads it, but cannot write it.

A block of 256 numbers has eight groups of 32; a number of a group is `scale · q − least`, with q from 0 to 15. The eight scales and
the eight least values are whole numbers from 0 to 63, times one factor each for the whole block:

    144 bytes:  factor of the scales (f16) · factor of the least values (f16) · 8 × (6 + 6) bits · 256 × 4 bits

Scale and least value of a group are fitted to its numbers by least squares. Source of the format: ggml (`block_q4_K`). Left out on
purpose: weighing numbers by how much they matter to texts, which needs texts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""Numbers of a block; the width of a matrix must be a multiple."""

GROUP = 32
GROUPS = BLOCK // GROUP
LEVELS = 15
"""The largest q."""
FACTORS = 63
"""The largest whole number of a scale or a least value."""

SPANS = (1.0, 0.9, 0.8)
"""Of a group's range, where a fit begins: leaving out the outermost numbers may serve the others."""
ROUNDS = 4
"""In which q and the line through it are fitted in turn."""

Numbers = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Lines(NamedTuple):
    """What a group's numbers are: `scale · q − least`, of every group `(…, 1)`."""

    scale: Numbers
    least: Numbers


def quantize(values: Numbers) -> Bytes:
    """Numbers `(rows, width)` as bytes `(rows, width / 256 · 144)`.

    Args:
        values: the width is a multiple of `BLOCK`.
    """
    rows, width = values.shape
    assert width % BLOCK == 0, f"rows of {width} numbers, blocks of {BLOCK}"
    blocks = values.reshape(-1, GROUPS, GROUP).astype(np.float32)
    lines = _fit(blocks)
    factor, scales = _round_to_factors(lines.scale[..., 0])
    least_factor, least = _round_to_factors(lines.least[..., 0])
    kept = Lines(
        factor.astype(np.float32)[..., None] * scales[..., None], least_factor.astype(np.float32)[..., None] * least[..., None]
    )
    levels = _levels(blocks, kept).astype(np.uint8)
    parts = (factor.view(np.uint8), least_factor.view(np.uint8), _pack_scales(scales, least), _pack_levels(levels))
    return np.concatenate(parts, axis=-1).reshape(rows, -1)


def _fit(groups: Numbers) -> Lines:
    """The line of each group, the best of several fits."""
    low = np.minimum(groups.min(-1, keepdims=True), 0)
    high = np.maximum(groups.max(-1, keepdims=True), 0)
    best = Lines((high - low) / LEVELS, -low)
    error = _error(groups, best)
    for span in SPANS:
        lines = Lines(span * (high - low) / LEVELS, -span * low)
        for _ in range(ROUNDS):
            lines = _fit_line(groups, _levels(groups, lines))
            found = _error(groups, lines)
            better = found < error
            best = Lines(*(np.where(better, new, old) for new, old in zip(lines, best, strict=True)))
            error = np.where(better, found, error)
    return best


def _fit_line(groups: Numbers, levels: Numbers) -> Lines:
    """The least squares of `scale · level − least`, with a least value of 0 or more."""
    mean_level, mean = levels.mean(-1, keepdims=True), groups.mean(-1, keepdims=True)
    spread = levels - mean_level
    scale = _ratio((spread * groups).sum(-1, keepdims=True), (spread * spread).sum(-1, keepdims=True))
    least = scale * mean_level - mean
    through_zero = _ratio((levels * groups).sum(-1, keepdims=True), (levels * levels).sum(-1, keepdims=True))
    return Lines(np.maximum(np.where(least < 0, through_zero, scale), 0), np.maximum(least, 0))


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """A quotient, 0 where nothing is below."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _levels(groups: Numbers, lines: Lines) -> Numbers:
    """The q that comes closest to each number."""
    levels: Numbers = np.clip(np.rint(_ratio(groups + lines.least, np.broadcast_to(lines.scale, groups.shape))), 0, LEVELS)
    return levels


def _error(groups: Numbers, lines: Lines) -> Numbers:
    difference = lines.scale * _levels(groups, lines) - lines.least - groups
    error: Numbers = (difference * difference).sum(-1, keepdims=True)
    return error


def _round_to_factors(values: Numbers) -> tuple[NDArray[np.float16], Bytes]:
    """Eight numbers a block, from 0 on, as whole numbers `(blocks, 8)` times one factor `(blocks, 1)`."""
    factor = (values.max(-1, keepdims=True) / FACTORS).astype(np.float16)
    whole = np.rint(_ratio(values, np.broadcast_to(factor.astype(np.float32), values.shape)))
    return factor, np.clip(whole, 0, FACTORS).astype(np.uint8)


def _pack_scales(scales: Bytes, least: Bytes) -> Bytes:
    """Eight and eight numbers of six bits in twelve bytes: of the second four, the upper two bits lie above the first four."""
    first = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    second = least[:, :4] | (least[:, 4:] >> 4 << 6)
    third = (scales[:, 4:] & 15) | (least[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=-1)


def _pack_levels(levels: Bytes) -> Bytes:
    """Two groups in 32 bytes: one in the lower halves, the next in the upper ones."""
    pairs = levels.reshape(-1, GROUPS // 2, 2, GROUP)
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).astype(np.uint8).reshape(-1, BLOCK // 2)
