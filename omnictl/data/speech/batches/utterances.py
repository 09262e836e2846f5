"""Batches of utterances of similar length, in an order that is a function of the seed and the position alone.

As with text there is no cursor to save: a step's example ids follow from its number, and a batch, augmentation included,
from its ids.
Sources: Ko et al. 2015 (speed perturbation), Park et al. 2019 (SpecAugment).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from omnictl.data.speech.batches.length_buckets import LengthBuckets
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import Float32, SpeechSet

MASKS = 2
"""Masks over time, and as many over frequency, in every utterance (as SpecAugment's LibriSpeech policy)."""


@dataclass(frozen=True)
class SpeechBatch:
    """Utterances side by side."""

    features: Tensor
    """(B, T, F) fp32 log-mels, zero where padded"""
    lengths: Tensor
    """(B,) int64, mel frames"""
    targets: Tensor
    """(B, U) int64, zero where padded"""
    target_lengths: Tensor
    """(B,) int64"""
    in_chunks: int = 0
    """The first so many are heard in chunks."""

    def rows(self, start: int, stop: int) -> "SpeechBatch":
        """Some of the utterances, of which none are said to be heard in chunks."""
        rows = slice(start, stop)
        return SpeechBatch(self.features[rows], self.lengths[rows], self.targets[rows], self.target_lengths[rows])


class SpeechBatches:
    """Utterances of similar length side by side; an example id is a position in the endless order of `LengthBuckets`."""

    def __init__(
        self, utterances: SpeechSet, config: SpeechDataConfig, *, batch_size: int, seed: int, chunk_share: float = 0.0
    ) -> None:
        self.utterances, self.config, self.batch_size, self.seed = utterances, config, batch_size, seed
        self.chunk_share = chunk_share  # of the utterances that are heard in chunks
        self.fill = utterances.statistics[0]
        lengths = np.stack([utterances.lengths(speed) for speed in range(len(utterances.stores))])  # (speeds, n)
        self.order = LengthBuckets(lengths, batch_size=batch_size, seed=seed)

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> SpeechBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        examples: list[tuple[bool, Float32, Sequence[int]]] = []
        for position in ids:
            index, speed = self.order.example(position)
            rng = np.random.default_rng([self.seed, 1, position])
            features = self._mask(self.utterances.features(index, speed), rng)
            examples.append((rng.random() < self.chunk_share, features, self.utterances.targets[index]))
        examples.sort(key=lambda example: not example[0])  # those in chunks first
        batch = pad([features for _, features, _ in examples], [targets for _, _, targets in examples])
        return replace(batch, in_chunks=sum(in_chunks for in_chunks, _, _ in examples))

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each utterance stands."""
        return [self.utterances.recordings[self.order.example(position)[0]].where for position in ids]

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """The last ones, which are the longest, of the batch with the longest utterance."""
        return self.order.longest(size)

    def _mask(self, features: Float32, rng: np.random.Generator) -> Float32:
        """SpecAugment: some stretches of time and some bands of frequency become the average audio."""
        longest = int(self.config.time_mask * len(features))
        for _ in range(MASKS):
            width = int(rng.integers(longest + 1))
            start = int(rng.integers(len(features) - width + 1))
            features[start : start + width] = self.fill
            width = int(rng.integers(self.config.frequency_mask + 1))
            start = int(rng.integers(max(1, features.shape[1] - width + 1)))
            features[:, start : start + width] = self.fill[start : start + width]
        return features


def evaluation_batches(utterances: SpeechSet, frames: int) -> Iterator[tuple[list[int], SpeechBatch]]:
    """All utterances, shortest first, about `frames` mel frames at a time; each batch with its utterances' indices."""
    lengths = utterances.lengths()
    indices: list[int] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if indices and (len(indices) + 1) * lengths[index] > frames:
            yield indices, _collate_unchanged(utterances, indices)
            indices = []
        indices.append(index)
    if indices:
        yield indices, _collate_unchanged(utterances, indices)


def _collate_unchanged(utterances: SpeechSet, indices: Sequence[int]) -> SpeechBatch:
    return pad([utterances.features(index) for index in indices], [utterances.targets[index] for index in indices])


def pad(features: Sequence[Float32], targets: Sequence[Sequence[int]]) -> SpeechBatch:
    """Utterances `(T, F)` and their targets as one batch."""
    longest = max(map(len, features))
    padded = np.zeros((len(features), longest, features[0].shape[1]), np.float32)
    padded_targets = np.zeros((len(features), max(1, *map(len, targets))), np.int64)
    for row, (frames, target) in enumerate(zip(features, targets, strict=True)):
        padded[row, : len(frames)] = frames
        padded_targets[row, : len(target)] = target
    return SpeechBatch(
        features=torch.from_numpy(padded),
        lengths=torch.tensor([len(frames) for frames in features]),
        targets=torch.from_numpy(padded_targets),
        target_lengths=torch.tensor([len(target) for target in targets]),
    )
