"""Batches of stretches of audio, all of one length, in an order that is a function of the seed and the position alone.

`Crops` are log-mels, for the codec; `AudioCrops` log-mels and the samples to be made of them, for the vocoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.data.speech.examples import SpeechSet
from omnictl.nn.audio.mel import RANGE


@dataclass(frozen=True)
class Crops:
    """Stretches side by side."""

    mel: Tensor
    """(B, T, F) fp32 log-mels"""
    books: Tensor
    """(B,) int64, how many of the codec's books each is coded with"""


class CropBatches:
    """A stretch of every utterance an epoch; what is too short for one is filled up with silence.

    Args:
        utterances: of the split.
        frames: mel frames of a stretch.
        batch_size: stretches of a batch.
        seed: of order, place and number of books.
        books: the codec's books.
        dropout: share of the stretches that are coded with fewer of them, any number alike (Zeghidour et al. 2021).
    """

    def __init__(self, utterances: SpeechSet, *, frames: int, batch_size: int, seed: int, books: int, dropout: float) -> None:
        self.utterances, self.frames, self.batch_size, self.seed = utterances, frames, batch_size, seed
        self.books, self.dropout = books, dropout
        self._epochs: dict[int, list[int]] = {}

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> Crops:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        mel = np.full((len(ids), self.frames, self.utterances.stores[0].frames.shape[1]), -RANGE, np.float32)
        books = np.full(len(ids), self.books, np.int64)
        for row, position in enumerate(ids):
            rng = np.random.default_rng([self.seed, 1, position])
            whole = self.utterances.features(self._utterance(position))
            start = int(rng.integers(max(1, len(whole) - self.frames + 1)))
            crop = whole[start : start + self.frames]
            mel[row, : len(crop)] = crop
            if rng.random() < self.dropout:
                books[row] = rng.integers(1, self.books + 1)
        return Crops(torch.from_numpy(mel), torch.from_numpy(books))

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each utterance stands."""
        return [self.utterances.recordings[self._utterance(position)].where for position in ids]

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """Any: all are of one size."""
        return range(size)

    def _utterance(self, position: int) -> int:
        epoch, place = divmod(position, len(self.utterances))
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a batch may span two
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.utterances)).tolist()
        return self._epochs[epoch][place]


@dataclass(frozen=True)
class AudioCrops:
    """Stretches side by side."""

    mel: Tensor
    """(B, T, F) fp32 log-mels"""
    samples: Tensor
    """(B, T · hop) fp32, the first of them in the middle of the first frame"""


class AudioCropBatches:
    """A stretch of every utterance an epoch.

    Args:
        mels: `(T', F)` each, what audio is to be made of.
        recordings: `(n,)` each, at the features' level.
        places: where each stands in its corpus.
        hop: samples from frame to frame.
        frames: of a stretch; what is shorter is left out.
        batch_size: stretches of a batch.
        seed: of order and place.
    """

    def __init__(
        self,
        mels: Sequence[NDArray[np.float16]],
        recordings: Sequence[NDArray[np.float32]],
        places: Sequence[str],
        *,
        hop: int,
        frames: int,
        batch_size: int,
        seed: int,
    ) -> None:
        lengths = [min(len(mel), len(audio) // hop) for mel, audio in zip(mels, recordings, strict=True)]
        self._long = [(index, length) for index, length in enumerate(lengths) if length >= frames]
        assert self._long, "not one utterance is as long as a stretch"
        self.mels, self.recordings, self.places = mels, recordings, places
        self.hop, self.frames, self.batch_size, self.seed = hop, frames, batch_size, seed

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> AudioCrops:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        crops = [self._crop(position) for position in ids]
        mel = np.stack([mel for mel, _ in crops]).astype(np.float32)
        return AudioCrops(torch.from_numpy(mel), torch.from_numpy(np.stack([audio for _, audio in crops])))

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each recording stands."""
        return [self.places[self._utterance(position)[0]] for position in ids]

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """Any: all are of one size."""
        return range(size)

    def _utterance(self, position: int) -> tuple[int, int]:
        """Its index, and its length in frames."""
        epoch, place = divmod(position, len(self._long))
        return self._long[int(np.random.default_rng([self.seed, 0, epoch]).permutation(len(self._long))[place])]

    def _crop(self, position: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        index, length = self._utterance(position)
        start = int(np.random.default_rng([self.seed, 1, position]).integers(length - self.frames + 1))
        stop = start + self.frames
        return self.mels[index][start:stop], self.recordings[index][start * self.hop : stop * self.hop]
