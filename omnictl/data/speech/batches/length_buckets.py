"""An order of training in which utterances of similar length meet, as a function of the seed and the position alone.

Epoch after epoch, each one shuffled, cut into batches of similar length, and shuffled again. What does not fill a batch waits for
another epoch.
"""

from itertools import count

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

POOL = 20
"""Batches sorted by length together: padding stays low, and which utterances meet changes from epoch to epoch."""


class LengthBuckets:
    """Places of an endless sequence of examples.

    Args:
        lengths: `(variants, n)` of every example in each of its variants, such as speeds.
        batch_size: examples of a batch.
        seed: of the order.
    """

    def __init__(self, lengths: Int64, *, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        count = lengths.shape[1]
        self.epoch_size = max(1, count // batch_size) * min(batch_size, count)
        self._epochs: dict[int, Int64] = {}

    def example(self, position: int) -> tuple[int, int]:
        """The example at a position, and its variant."""
        epoch, place = divmod(position, self.epoch_size)
        index, variant = self._epoch(epoch)[place]
        return int(index), int(variant)

    def longest(self, size: int) -> range:
        """Positions of `size` examples, the longest of a batch, of which one is the longest of all in its longest variant."""
        variant, index = np.unravel_index(int(self.lengths.argmax()), self.lengths.shape)
        for number in count():
            (places,) = np.nonzero((self._epoch(number) == (index, variant)).all(1))
            if len(places):
                start = number * self.epoch_size + int(places[0]) // self.batch_size * self.batch_size
                stop = min(start + self.batch_size, (number + 1) * self.epoch_size)
                return range(max(start, stop - size), stop)
        raise AssertionError("every example is drawn in every variant some day")

    def _epoch(self, number: int) -> Int64:
        if number not in self._epochs:
            while len(self._epochs) > 1:  # a batch may span two
                del self._epochs[min(self._epochs)]
            self._epochs[number] = self._make_epoch(number)
        return self._epochs[number]

    def _make_epoch(self, number: int) -> Int64:
        """`(epoch_size, 2)`: example and variant at each place."""
        variants, count = self.lengths.shape
        rng = np.random.default_rng([self.seed, 0, number])
        order = rng.permutation(count)[: self.epoch_size]
        chosen_variants = rng.integers(variants, size=len(order))
        pool = POOL * self.batch_size
        batches: list[Int64] = []
        for start in range(0, len(order), pool):
            chosen = np.stack([order[start : start + pool], chosen_variants[start : start + pool]], 1)
            by_length = chosen[np.argsort(self.lengths[chosen[:, 1], chosen[:, 0]], kind="stable")]
            batches += [by_length[i : i + self.batch_size] for i in range(0, len(by_length), self.batch_size)]
        return np.concatenate([batches[i] for i in rng.permutation(len(batches))])
