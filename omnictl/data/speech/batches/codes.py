"""Speech in codes, with how long each symbol of its text lasts; and batches of it, functions of seed and position alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from omnictl.data.speech.batches.length_buckets import Int64, LengthBuckets
from omnictl.nn.audio.delay_pattern import delay, one_later
from omnictl.nn.audio.length_regulator import SpreadText, spread_text

NOTHING = -1
"""Target where no code is written."""


@dataclass(frozen=True)
class CodedSpeech:
    """Utterances of a split as the Talker learns to say them."""

    symbols: Sequence[Sequence[int]]
    """The text of each."""
    speakers: Sequence[int]
    """Who says it, by number."""
    codes: Sequence[NDArray[np.int16]]
    """`(K, S)` each."""
    durations: Sequence[Int64]
    """`(T,)` sub-frames of every symbol; together the frames of codes, the last one possibly filled up."""
    places: Sequence[str]
    """Where each stands in its corpus."""
    thinker_states: Sequence[Tensor] | None = None
    """`(T, D)` what a Thinker makes of every symbol."""

    def __len__(self) -> int:
        return len(self.symbols)


@dataclass(frozen=True)
class CodedBatch:
    """Utterances side by side."""

    symbols: Tensor
    """(B, T) int64"""
    symbol_lengths: Tensor
    """(B,) int64"""
    speakers: Tensor
    """(B,) int64"""
    durations: Tensor
    """(B, T) int64 sub-frames, zero where padded"""
    spread: SpreadText
    """over U = S · subframes sub-frames"""
    lengths: Tensor
    """(B,) int64 frames of codes"""
    history: Tensor
    """(B, K, S + K - 1) int64, what was written one step before; the number of codes where nothing was"""
    targets: Tensor
    """(B, K, S + K - 1) int64, what is to be written; `NOTHING` where nothing is"""
    thinker_states: Tensor | None
    """(B, T, D) fp32, zero where padded"""


@dataclass(frozen=True)
class CodesLayout:
    """How codes and time go together."""

    subframes: int
    """Sub-frames of durations in a frame of codes."""
    codes: int
    """Codes of a book."""


class CodedBatches:
    """Utterances of similar length side by side; an example id is a position in the endless order of `LengthBuckets`.

    Args:
        speech: the utterances.
        layout: of codes and time.
        batch_size: utterances of a batch.
        seed: of order and corruption.
        corruption: share of the codes read back that are replaced by any others.
    """

    def __init__(self, speech: CodedSpeech, layout: CodesLayout, *, batch_size: int, seed: int, corruption: float) -> None:
        self.speech, self.layout, self.batch_size, self.seed, self.corruption = speech, layout, batch_size, seed, corruption
        lengths = np.array([[codes.shape[1] for codes in speech.codes]], np.int64)  # (1, n)
        self.order = LengthBuckets(lengths, batch_size=batch_size, seed=seed)

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> CodedBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        indices = [self.order.example(position)[0] for position in ids]
        corrupted = [self._corrupt(self.speech.codes[index], position) for index, position in zip(indices, ids, strict=True)]
        return collate_codes(self.speech, indices, corrupted, self.layout)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each utterance stands."""
        return [self.speech.places[self.order.example(position)[0]] for position in ids]

    @property
    def typical_step(self) -> int:
        """Any step: all are alike."""
        return 0

    def largest(self, size: int) -> Sequence[int]:
        """The last ones, which are the longest, of the batch with the longest utterance."""
        return self.order.longest(size)

    def _corrupt(self, codes: NDArray[np.int16], position: int) -> NDArray[np.int16]:
        rng = np.random.default_rng([self.seed, 1, position])
        others = rng.integers(self.layout.codes, size=codes.shape, dtype=np.int16)
        return np.where(rng.random(codes.shape) < self.corruption, others, codes)


def evaluation_batches(speech: CodedSpeech, layout: CodesLayout, frames: int) -> Iterator[tuple[list[int], CodedBatch]]:
    """All utterances, shortest first, about `frames` frames of codes at a time; each batch with its utterances' indices."""
    lengths = np.array([codes.shape[1] for codes in speech.codes])
    indices: list[int] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if indices and (len(indices) + 1) * lengths[index] > frames:
            yield indices, _collate_unchanged(speech, indices, layout)
            indices = []
        indices.append(index)
    if indices:
        yield indices, _collate_unchanged(speech, indices, layout)


def _collate_unchanged(speech: CodedSpeech, indices: Sequence[int], layout: CodesLayout) -> CodedBatch:
    return collate_codes(speech, indices, [speech.codes[index] for index in indices], layout)


def collate_codes(
    speech: CodedSpeech, indices: Sequence[int], context_codes: Sequence[NDArray[np.int16]], layout: CodesLayout
) -> CodedBatch:
    """These utterances as a batch in which `context_codes` `(K, S)` each is what the Talker reads back."""
    symbols = _pad_rows([np.array(speech.symbols[index], np.int64) for index in indices], 0)
    durations = [speech.durations[index] for index in indices]
    codes = [speech.codes[index] for index in indices]
    history = one_later(_delay_rows(context_codes, layout.codes), layout.codes)
    return CodedBatch(
        symbols=symbols,
        symbol_lengths=torch.tensor([len(speech.symbols[index]) for index in indices]),
        speakers=torch.tensor([speech.speakers[index] for index in indices]),
        durations=_pad_rows(durations, 0),
        spread=spread_text(durations, layout.subframes),
        lengths=torch.tensor([row.shape[1] for row in codes]),
        history=history,
        targets=_delay_rows(codes, NOTHING),
        thinker_states=None
        if speech.thinker_states is None
        else pad_sequence([speech.thinker_states[i] for i in indices], batch_first=True),
    )


def _delay_rows(rows: Sequence[NDArray[np.int16]], empty: int) -> Tensor:
    longest = max(row.shape[1] for row in rows)
    padded = np.full((len(rows), len(rows[0]), longest), empty, np.int64)
    for place, row in zip(padded, rows, strict=True):
        place[:, : row.shape[1]] = row
    return delay(torch.from_numpy(padded), empty)


def _pad_rows(rows: Sequence[Int64], value: int) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded)
