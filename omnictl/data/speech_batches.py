"""Batches of utterances of similar length, in an order that is a function of the seed and the position alone.

As with text there is no cursor to save: a step's example ids follow from its number, and a batch, augmentation included,
from its ids.
Sources: Ko et al. 2015 (speed perturbation), Park et al. 2019 (SpecAugment).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnictl.data.features import Int64
from omnictl.data.speech import SpeechDataConfig
from omnictl.data.speech_set import Float32, SpeechSet

POOL = 20
"""Batches sorted by length together: padding stays low, and which utterances meet changes from epoch to epoch."""

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


class SpeechBatches:
    """The training order: epoch after epoch, each one shuffled, cut into batches of similar length, and shuffled again.

    An example id is a position in that endless sequence. What does not fill a batch waits for another epoch.
    """

    def __init__(self, found: SpeechSet, config: SpeechDataConfig, *, batch_size: int, seed: int, fill: Float32) -> None:
        self.found, self.config, self.batch_size, self.seed, self.fill = found, config, batch_size, seed, fill
        self.epoch_size = max(1, len(found) // batch_size) * min(batch_size, len(found))
        self._lengths = np.stack([found.lengths(speed) for speed in range(len(found.stores))])  # (speeds, n)
        self._epochs: dict[int, Int64] = {}

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> SpeechBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        features, targets = [], []
        for position in ids:
            epoch, place = divmod(position, self.epoch_size)
            index, speed = self._epoch(epoch)[place]
            rng = np.random.default_rng([self.seed, 1, position])
            features.append(self._mask(self.found.features(int(index), int(speed)), rng))
            targets.append(self.found.targets[index])
        return pad(features, targets)

    def _epoch(self, number: int) -> Int64:
        if number not in self._epochs:
            while len(self._epochs) > 1:  # a batch may span two
                del self._epochs[min(self._epochs)]
            self._epochs[number] = self._make_epoch(number)
        return self._epochs[number]

    def _make_epoch(self, number: int) -> Int64:
        """`(epoch_size, 2)`: utterance and speed at each place."""
        rng = np.random.default_rng([self.seed, 0, number])
        order = rng.permutation(len(self.found))[: self.epoch_size]
        speeds = rng.integers(len(self.found.stores), size=len(order))
        pool = POOL * self.batch_size
        batches: list[Int64] = []
        for start in range(0, len(order), pool):
            chosen = np.stack([order[start : start + pool], speeds[start : start + pool]], 1)
            by_length = chosen[np.argsort(self._lengths[chosen[:, 1], chosen[:, 0]], kind="stable")]
            batches += [by_length[i : i + self.batch_size] for i in range(0, len(by_length), self.batch_size)]
        return np.concatenate([batches[i] for i in rng.permutation(len(batches))])

    def _mask(self, features: Float32, rng: np.random.Generator) -> Float32:
        """SpecAugment: some stretches of time and some bands of frequency become the average sound."""
        longest = int(self.config.time_mask * len(features))
        for _ in range(MASKS):
            width = int(rng.integers(longest + 1))
            start = int(rng.integers(len(features) - width + 1))
            features[start : start + width] = self.fill
            width = int(rng.integers(self.config.frequency_mask + 1))
            start = int(rng.integers(max(1, features.shape[1] - width + 1)))
            features[:, start : start + width] = self.fill[start : start + width]
        return features


def evaluation_batches(found: SpeechSet, frames: int) -> Iterator[tuple[list[int], SpeechBatch]]:
    """All utterances, shortest first, about `frames` mel frames at a time; each batch with its utterances' indices."""
    lengths = found.lengths()
    indices: list[int] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if indices and (len(indices) + 1) * lengths[index] > frames:
            yield indices, _unchanged(found, indices)
            indices = []
        indices.append(index)
    if indices:
        yield indices, _unchanged(found, indices)


def _unchanged(found: SpeechSet, indices: Sequence[int]) -> SpeechBatch:
    return pad([found.features(index) for index in indices], [found.targets[index] for index in indices])


def pad(features: Sequence[Float32], targets: Sequence[Sequence[int]]) -> SpeechBatch:
    """Utterances `(T, F)` and their targets as one batch."""
    longest = max(map(len, features))
    padded = np.zeros((len(features), longest, features[0].shape[1]), np.float32)
    spelled = np.zeros((len(features), max(1, *map(len, targets))), np.int64)
    for row, (sound, target) in enumerate(zip(features, targets, strict=True)):
        padded[row, : len(sound)] = sound
        spelled[row, : len(target)] = target
    return SpeechBatch(
        features=torch.from_numpy(padded),
        lengths=torch.tensor([len(sound) for sound in features]),
        targets=torch.from_numpy(spelled),
        target_lengths=torch.tensor([len(target) for target in targets]),
    )
