"""Batches of packed text, in an order that is a function of the seed and the position alone.

There is no cursor to save: a step's example ids follow from its number, and a batch from its ids.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnictl.data.text.packing import Int64, Packing, pack
from omnictl.data.text.token_store import TokenStore
from omnictl.data.text.tokenizer import PAD
from omnictl.errors import DataError
from omnictl.nn.losses.cross_entropy import IGNORE


@dataclass(frozen=True)
class TextBatch:
    """Windows of text: token (b, t) in, target (b, t) to be predicted."""

    tokens: Tensor
    """(B, T) int64"""
    targets: Tensor
    """(B, T) int64, -100 where padded"""
    segments: Tensor | None
    """(B, T) int32, the piece within its window that a position belongs to, -1 where padded: a position attends to
    earlier ones of its own segment. None if each window is one piece without padding: plain causal attention does."""
    index: Tensor
    """(B, T) int64, where the target stands in the store's `tokens`; -1 where padded"""
    num_targets: int


class TextBatches:
    """The training order: epoch after epoch over a packed split, each one cut and shuffled anew.

    An example id is a position in that endless sequence of windows. Epochs may differ in length, as other cuts of the
    long documents pack differently; a batch may span two of them.

    Raises:
        DataError: the split is shorter than a window.
    """

    def __init__(self, store: TokenStore, *, seq_len: int, batch_size: int, seed: int, pad_id: int = PAD) -> None:
        if seq_len > store.num_predictions:
            raise DataError(
                f"a window of {seq_len} tokens is longer than the {store.split} split ({store.num_predictions} tokens)",
                where="data.seq_len",
                fix=f"--set data.seq_len={max(1, store.num_predictions // 4)} or less, or give more text",
            )
        self.store = store
        self.seq_len = seq_len
        self.batch_size = batch_size
        self.seed = seed
        self.pad_id = pad_id
        self._has_cuts = bool((np.diff(store.bounds) > seq_len).any())
        self._starts = [0]  # position of the first window of each epoch known so far, and of the one after
        self._epochs: dict[int, _Epoch] = {}

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> TextBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        spans = [self._window(position) for position in ids]
        return _collate(self.store, spans, self.seq_len, self.pad_id)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """The documents of each window, by number."""
        starts = (self._window(position)[:, 0] for position in ids)
        documents = (np.searchsorted(self.store.bounds, start, side="right") - 1 for start in starts)
        return [f"{self.store.split} documents {', '.join(map(str, dict.fromkeys(numbers.tolist())))}" for numbers in documents]

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """Any: all are of one size."""
        return range(size)

    def _window(self, position: int) -> Int64:
        """The pieces of the window at a position: (pieces, 2)."""
        while self._starts[-1] <= position:
            self._starts.append(self._starts[-1] + self._epoch(len(self._starts) - 1).packing.num_windows)
        number = bisect_right(self._starts, position) - 1
        return self._epoch(number).window(position - self._starts[number])

    def _epoch(self, number: int) -> "_Epoch":
        if number not in self._epochs:
            while len(self._epochs) > 1:  # two are enough: a batch may span two
                del self._epochs[min(self._epochs)]
            self._epochs[number] = self._make_epoch(number)
        return self._epochs[number]

    def _make_epoch(self, number: int) -> "_Epoch":
        generator = np.random.default_rng([self.seed, number])
        offset = int(generator.integers(1, self.seq_len, endpoint=True))
        if self._has_cuts or not self._epochs:
            packing = pack(self.store.bounds, self.seq_len, offset=offset)
        else:  # whole documents pack the same way in every epoch
            packing = next(iter(self._epochs.values())).packing
        return _Epoch(packing, generator.permutation(packing.num_windows))


@dataclass(frozen=True)
class _Epoch:
    packing: Packing
    order: Int64

    def window(self, place: int) -> Int64:
        return self.packing.window(self.order[place])


def evaluation_batches(store: TokenStore, *, seq_len: int, batch_size: int, pad_id: int = PAD) -> Iterator[TextBatch]:
    """A whole split, each token predicted once, windows in the order of the text; the last batch may be smaller."""
    packing = pack(store.bounds, seq_len, offset=seq_len)
    for start in range(0, packing.num_windows, batch_size):
        stop = min(start + batch_size, packing.num_windows)
        yield _collate(store, [packing.window(number) for number in range(start, stop)], seq_len, pad_id)


def _collate(store: TokenStore, windows: Sequence[Int64], seq_len: int, pad_id: int) -> TextBatch:
    """Args: windows, one array of pieces (pieces, 2) for each row of the batch."""
    num_pieces = np.array([len(pieces) for pieces in windows])
    spans = np.concatenate(windows)  # (N, 2), pieces of all rows
    lengths = spans[:, 1] - spans[:, 0]
    row = np.repeat(np.arange(len(windows)), num_pieces)  # (N,)
    rank = np.arange(len(spans)) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)  # (N,) piece in its row
    before = np.cumsum(lengths) - lengths  # (N,) predictions in earlier pieces
    used = np.bincount(row, weights=lengths, minlength=len(windows)).astype(np.int64)  # (B,)
    before_row = np.cumsum(used) - used

    count = np.arange(lengths.sum())  # predictions of the batch, row by row without padding
    place = count + np.repeat(row * seq_len - before_row[row], lengths)  # where each lands in the flat (B * T)
    index = np.full(len(windows) * seq_len, -1, np.int64)
    segments = np.full(len(windows) * seq_len, -1, np.int32)
    tokens = np.full(len(windows) * seq_len, pad_id, np.int64)
    targets = np.full(len(windows) * seq_len, IGNORE, np.int64)
    source = count + np.repeat(spans[:, 0] - before, lengths)
    index[place] = source
    segments[place] = np.repeat(rank, lengths)
    tokens[place] = store.tokens[source - 1]
    targets[place] = store.tokens[source]

    shape = (len(windows), seq_len)
    is_plain = len(spans) == len(windows) and len(count) == len(index)
    return TextBatch(
        tokens=torch.from_numpy(tokens).view(shape),
        targets=torch.from_numpy(targets).view(shape),
        segments=None if is_plain else torch.from_numpy(segments).view(shape),
        index=torch.from_numpy(index).view(shape),
        num_targets=len(count),
    )
