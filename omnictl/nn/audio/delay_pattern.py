"""The delay pattern: book k of a frame is written k steps after book 0, so that each book knows those before it.

Source: Copet et al. 2023, "Simple and Controllable Music Generation" (MusicGen), section 2.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def delay(codes: Tensor, empty: int) -> Tensor:
    """Codes `(B, K, S)` with book k moved k steps later, `(B, K, S + K - 1)`; `empty` where there is none."""
    books = codes.shape[1]
    return torch.stack([F.pad(codes[:, k], (k, books - 1 - k), value=empty) for k in range(books)], 1)


def undelay(steps: Tensor) -> Tensor:
    """The codes `(B, K, S)` of which `delay` makes `(B, K, S + K - 1)`."""
    books = steps.shape[1]
    num_frames = steps.shape[2] - books + 1
    return torch.stack([steps[:, k, k : k + num_frames] for k in range(books)], 1)


def one_later(steps: Tensor, empty: int) -> Tensor:
    """What is known at each step `(B, K, L)`: what was written at the one before; nothing at the first."""
    return F.pad(steps, (1, 0), value=empty)[..., :-1]
