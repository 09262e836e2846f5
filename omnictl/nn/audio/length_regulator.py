"""A length regulator (Ren et al. 2019, FastSpeech): a text spread over time, and where in its symbol each stretch of time lies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SpreadText(NamedTuple):
    """The symbols of a batch over U sub-frames of time."""

    owner: Tensor  # (B, U) int64, the position whose sub-frame it is; -1 beyond the end
    before: Tensor  # (B, U) int64, sub-frames of this symbol before it
    after: Tensor  # (B, U) int64, and after it


def spread_text(durations: Sequence[NDArray[np.int64]], subframes: int) -> SpreadText:
    """Texts whose symbols last so many sub-frames each, `(T,)` a text, side by side; U is a multiple of `subframes`."""
    longest = max(int(time.sum()) for time in durations)
    size = -(-longest // subframes) * subframes
    owner = np.full((len(durations), size), -1, np.int64)
    before, after = np.zeros_like(owner), np.zeros_like(owner)
    for row, time in enumerate(durations):
        total = int(time.sum())
        begin, end = np.repeat(np.cumsum(time) - time, time), np.repeat(np.cumsum(time), time)
        owner[row, :total] = np.repeat(np.arange(len(time)), time)
        before[row, :total] = np.arange(total) - begin
        after[row, :total] = end - 1 - np.arange(total)
    return SpreadText(torch.from_numpy(owner), torch.from_numpy(before), torch.from_numpy(after))
