"""An n-gram language model, the baseline that a neural model has to beat: interpolated Kneser-Ney, numpy only.

The probability of a word after a context of k - 1 tokens, k = 2 … order:

    P_k(w | c) = max(a(c w) - D_k, 0) / A(c)  +  D_k T(c) / A(c) · P_{k-1}(w | c without its first token)

a is the count of an n-gram at the highest order, and below it the number of different tokens seen before the n-gram;
A(c) is its sum and T(c) the number of different w after c; D_k = n1 / (n1 + 2 n2), from the numbers of n-grams with a = 1
and a = 2. The unigrams (k = 1) are interpolated with the uniform distribution over the vocabulary. An unseen context passes
on to the shorter one.

Documents end with an end token, and the end token of one document is the begin token of the next: no context reaches back
beyond it. N-grams that start with it have no token before them and keep their count at every order (as in KenLM).

Source: Ney, Essen, Kneser 1994; Chen and Goodman 1999 (section 3; one discount an order).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


COUNTED_AT_ONCE = 10_000_000
"""Tokens of the training split that are held in memory at a time."""


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length. A key is `context id * vocab_size + last token`; a context's id is its row in the order below."""

    keys: Ints  # (N,) sorted
    discounted: Floats  # (N,) a - D
    context_totals: Floats  # (C,) A
    context_backoff: Floats  # (C,) D T


@dataclass(frozen=True)
class NgramModel:
    """A fitted n-gram model."""

    vocab_size: int
    end_token: int
    orders: tuple[_Order, ...]

    @classmethod
    def fit(cls, tokens: NDArray[np.integer], order: int = 5, *, vocab_size: int, end_token: int) -> "NgramModel":
        """Count n-grams up to length `order`.

        Args:
            tokens: (N,) ids in [0, vocab_size), documents one after the other, each closed by `end_token`.
            order: the longest n-gram; contexts have up to `order - 1` tokens.
            vocab_size: number of ids.
            end_token: the id that separates documents.
        """
        assert order >= 1
        assert tokens.size > 0
        stream = tokens.astype(np.int64)
        if stream[0] != end_token:  # the first document begins like every other
            stream = np.concatenate([np.array([end_token]), stream])
        history = _history_lens(stream, end_token)
        tables = [_count(stream, np.zeros_like(stream), history >= 1, vocab_size)]  # the first token is no event
        for k in range(2, order + 1):
            # Unigram rows are the ids themselves, so that every token, seen or not, has a row.
            contexts = stream if k == 2 else tables[-1].rows
            tables.append(_count(stream, _shift(contexts), history >= k - 1, vocab_size))
        adjusted = [_continuation_counts(table, longer) for table, longer in pairwise(tables)]
        adjusted.append(tables[-1].counts)
        num_contexts = [1, vocab_size, *(table.keys.size for table in tables[1:-1])]
        fitted = zip(tables, adjusted, num_contexts[:order], strict=True)
        return cls(vocab_size, end_token, tuple(_discount(t.keys, a, c, vocab_size) for t, a, c in fitted))

    def probabilities(self, tokens: NDArray[np.integer]) -> Floats:
        """P(token i | the tokens before it in its document, at most order - 1).

        Args:
            tokens: (N,) ids; a stream like that of `fit`. Start it with the end token to have its first document scored whole.

        Returns:
            (N - 1,) probabilities of tokens[1:].
        """
        stream = tokens.astype(np.int64)
        history = _history_lens(stream, self.end_token)
        result = np.full(stream.size, 1.0 / self.vocab_size)
        contexts = np.zeros_like(stream)
        for k, order in enumerate(self.orders, start=1):
            has_context = (contexts >= 0) & (history >= k - 1)
            keys = np.where(has_context, contexts * self.vocab_size + stream, -1)
            rows = _find(order.keys, keys)
            _interpolate(order, result, np.where(has_context, contexts, -1), rows)
            contexts = _shift(stream if k == 1 else rows)
        return result[1:]


def unigram_nats(training: NDArray[np.integer], tokens: NDArray[np.integer], vocab_size: int) -> Floats:
    """−ln p of each token `(N,)` by how often it is in the training tokens, every token counted once more than it is."""
    counts = np.ones(vocab_size)
    for start in range(0, len(training), COUNTED_AT_ONCE):  # which may lie on disk
        counts += np.bincount(training[start : start + COUNTED_AT_ONCE], minlength=vocab_size)
    nats: Floats = -np.log(counts / counts.sum())[tokens]
    return nats


@dataclass(frozen=True)
class _Table:
    """The different n-grams of one length in a stream of N tokens."""

    keys: Ints  # (G,) sorted
    counts: Ints  # (G,)
    rows: Ints  # (N,) which n-gram ends at each token; -1 where the document is too short
    first: Ints  # (G,) where each n-gram ends for the first time


def _history_lens(stream: Ints, end_token: int) -> Ints:
    """(N,) how many tokens stand before each in its document, the end token before the document included."""
    positions = np.arange(stream.size)
    starts = np.where(stream == end_token, positions, 0)
    latest_start = np.maximum.accumulate(starts)
    return np.concatenate([np.zeros(1, np.int64), positions[1:] - latest_start[:-1]])


def _shift(rows: Ints) -> Ints:
    """(N,) what ended one token before: the context of each token."""
    return np.concatenate([np.array([-1]), rows[:-1]])


def _count(stream: Ints, contexts: Ints, valid: NDArray[np.bool_], vocab_size: int) -> _Table:
    positions = np.flatnonzero(valid)
    keys, first, inverse, counts = np.unique(
        contexts[positions] * vocab_size + stream[positions], return_index=True, return_inverse=True, return_counts=True
    )
    rows = np.full(stream.size, -1, np.int64)
    rows[positions] = inverse
    return _Table(keys, counts.astype(np.int64), rows, positions[first])


def _continuation_counts(table: _Table, longer: _Table) -> Ints:
    """(G,) how many different tokens come before each n-gram; the count itself where a document begins with it."""
    extensions = np.bincount(table.rows[longer.first], minlength=table.keys.size)
    return np.where(extensions == 0, table.counts, extensions)


def _discount(keys: Ints, counts: Ints, num_contexts: int, vocab_size: int) -> _Order:
    ones, twos = int((counts == 1).sum()), int((counts == 2).sum())
    # Without any n-gram seen once there is nothing to estimate from; a half leaves unseen words possible.
    discount = ones / (ones + 2 * twos) if ones else 0.5
    contexts = keys // vocab_size
    totals = np.bincount(contexts, weights=counts, minlength=num_contexts)
    types = np.bincount(contexts, minlength=num_contexts)
    discounted = counts.astype(np.float64) - discount
    return _Order(keys, discounted, totals.astype(np.float64), discount * types.astype(np.float64))


def _find(keys: Ints, wanted: Ints) -> Ints:
    """(N,) the rows of `wanted` in sorted `keys`, -1 where absent."""
    rows = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[rows] == wanted, rows, -1) if keys.size else np.full(wanted.size, -1)


def _interpolate(order: _Order, result: Floats, contexts: Ints, rows: Ints) -> None:
    """Replace each probability in `result` by the one with a context one token longer, where that was seen."""
    has_context = contexts >= 0
    has_context[has_context] = order.context_totals[contexts[has_context]] > 0
    totals = order.context_totals[contexts[has_context]]
    discounted = np.where(rows[has_context] >= 0, order.discounted[rows[has_context]], 0.0)
    result[has_context] = (discounted + order.context_backoff[contexts[has_context]] * result[has_context]) / totals
