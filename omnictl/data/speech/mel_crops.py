"""Batches of stretches of sound with the mel frames to make them of, in an order that is a function of seed and position alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class SoundCrops:
    """Stretches side by side."""

    mel: Tensor
    """(B, T, F) fp32 log-mels"""
    samples: Tensor
    """(B, T · hop) fp32, the first of them in the middle of the first frame"""


class SoundCropBatches:
    """A stretch of every utterance an epoch.

    Args:
        mels: `(T', F)` each, what sound is to be made of.
        sounds: `(n,)` each, at the features' level.
        hop: samples from frame to frame.
        frames: of a stretch; what is shorter is left out.
        batch_size: stretches of a batch.
        seed: of order and place.
    """

    def __init__(
        self,
        mels: Sequence[NDArray[np.float16]],
        sounds: Sequence[NDArray[np.float32]],
        *,
        hop: int,
        frames: int,
        batch_size: int,
        seed: int,
    ) -> None:
        whole = [min(len(mel), len(sound) // hop) for mel, sound in zip(mels, sounds, strict=True)]
        self._long = [(index, length) for index, length in enumerate(whole) if length >= frames]
        assert self._long, "not one utterance is as long as a stretch"
        self.mels, self.sounds = mels, sounds
        self.hop, self.frames, self.batch_size, self.seed = hop, frames, batch_size, seed

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> SoundCrops:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        crops = [self._crop(position) for position in ids]
        mel = np.stack([mel for mel, _ in crops]).astype(np.float32)
        return SoundCrops(torch.from_numpy(mel), torch.from_numpy(np.stack([sound for _, sound in crops])))

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """Any: all are of one size."""
        return range(size)

    def _crop(self, position: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        epoch, place = divmod(position, len(self._long))
        index, length = self._long[int(np.random.default_rng([self.seed, 0, epoch]).permutation(len(self._long))[place])]
        start = int(np.random.default_rng([self.seed, 1, position]).integers(length - self.frames + 1))
        stop = start + self.frames
        return self.mels[index][start:stop], self.sounds[index][start * self.hop : stop * self.hop]
