"""Overlap and add: what the inverse of a short-time transform ends with."""

import torch.nn.functional as F
from torch import Tensor


def overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """Pieces `(B, N, size)`, each `hop` samples after the one before, added up: `(B, (N - 1) · hop + size)`."""
    batch, frames, size = pieces.shape
    length = (frames - 1) * hop + size
    return F.fold(pieces.mT, (1, length), (1, size), stride=(1, hop)).reshape(batch, length)


def envelope(window: Tensor, frames: int, hop: int) -> Tensor:
    """How much so many overlapped windows `(size,)`, squared, weigh at every sample: `((frames - 1) · hop + size,)`."""
    return overlap_add(window.square().expand(1, frames, -1), hop)[0]
