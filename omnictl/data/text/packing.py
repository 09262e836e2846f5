"""Fits documents into training windows of `seq_len` predictions, with little padding and no mixing.

A document of n tokens asks for n + 1 predictions: `<|end|> t₁ … tₙ` in, `t₁ … tₙ <|end|>` out. One that fits is never
cut; one that does not is cut into consecutive pieces of `seq_len` predictions. Best-fit decreasing then fills the
windows (Ding et al., 2024, "Fewer Truncations Improve Language Modeling"): on short documents they are nearly full.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Packing:
    """Which predictions go into which window.

    Window w holds the pieces `spans[first[w] : first[w + 1]]`; a piece [start, stop) stands for predicting
    `tokens[start:stop]` from `tokens[start - 1 : stop - 1]`.
    """

    spans: Int64
    """(number of pieces, 2), no piece longer than the window."""
    first: Int64
    """(number of windows + 1,)"""

    @property
    def num_windows(self) -> int:
        """Number of windows."""
        return len(self.first) - 1

    def window(self, number: int) -> Int64:
        """The pieces of a window: (pieces, 2)."""
        return self.spans[self.first[number] : self.first[number + 1]]


def pack(bounds: Int64, seq_len: int, *, offset: int) -> Packing:
    """Pack every document whole, or in pieces if longer than a window; each prediction falls in exactly one piece.

    Args:
        bounds: (number of documents + 1,), document d being the predictions [bounds[d], bounds[d + 1]).
        seq_len: predictions in a window.
        offset: length of the first piece of a document that is cut, in [1, seq_len]. Another one each epoch moves all
            its cuts; `seq_len` is for evaluation.

    Returns:
        The windows in the order of their first pieces, pieces in a window in the order of the text.
    """
    assert 1 <= offset <= seq_len
    spans = _cut(bounds, seq_len, offset)
    window = _best_fit_decreasing(spans[:, 1] - spans[:, 0], seq_len)
    window = _renumber_by_first_use(window)
    order = np.argsort(window, kind="stable")
    num_pieces = np.bincount(window)
    return Packing(spans[order], np.concatenate(([0], np.cumsum(num_pieces))))


def _cut(bounds: Int64, seq_len: int, offset: int) -> Int64:
    """Pieces of all documents in the order of the text: (number of pieces, 2)."""
    lengths = np.diff(bounds)
    head = np.where(lengths > seq_len, offset, lengths)  # (documents,) length of the first piece
    num_pieces = 1 + -(-(lengths - head) // seq_len)
    document = np.repeat(np.arange(len(lengths)), num_pieces)
    rank = np.arange(len(document)) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    stops = np.minimum((bounds[:-1] + head)[document] + rank * seq_len, bounds[1:][document])
    starts = np.concatenate((bounds[:1], stops[:-1]))  # documents lie side by side, so pieces do
    return np.stack((starts, stops), axis=1)


def _best_fit_decreasing(lengths: Int64, seq_len: int) -> Int64:
    """The window of each piece: longest first, each into the fullest window that still has room for it."""
    window = np.empty(len(lengths), np.int64)
    is_full = lengths == seq_len
    num_windows = int(is_full.sum())
    window[is_full] = np.arange(num_windows)

    rest = np.flatnonzero(~is_full)
    rest = rest[np.argsort(-lengths[rest], kind="stable")]
    rooms: list[int] = []  # sorted: the amounts of room that some window has
    windows_with: list[list[int]] = [[] for _ in range(seq_len + 1)]  # by room
    for piece, length in zip(rest.tolist(), lengths[rest].tolist(), strict=True):
        place = bisect_left(rooms, length)
        if place == len(rooms):
            room, chosen = seq_len, num_windows
            num_windows += 1
        else:
            room = rooms[place]
            chosen = windows_with[room].pop()
            if not windows_with[room]:
                del rooms[place]
        window[piece] = chosen
        if not windows_with[room - length]:
            insort(rooms, room - length)
        windows_with[room - length].append(chosen)
    return window


def _renumber_by_first_use(window: Int64) -> Int64:
    _, first_use, inverse = np.unique(window, return_index=True, return_inverse=True)
    rank = np.empty(len(first_use), np.int64)
    rank[np.argsort(first_use)] = np.arange(len(first_use))
    return rank[inverse]
