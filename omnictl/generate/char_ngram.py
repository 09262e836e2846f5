"""A character n-gram model that rates a text symbol by symbol: the language model of the CTC beam search.

The probabilities are those of `omnictl.metrics.ngram` (interpolated Kneser-Ney, Ney, Essen, Kneser 1994; Chen and Goodman 1999):
this module looks them up one context at a time. The CTC blank never occurs in a target, so its id marks a text's begin and end.

A state is the longest end of the text that the model has seen as a context: what has never been seen says nothing beyond what
its own end says. So there are no more states than the model has contexts, and each is worked out once, as long as memory allows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from omnictl.errors import CheckpointError
from omnictl.metrics.ngram import NgramModel
from omnictl.nn.losses.ctc import BLANK
from omnictl.runs.checksums import read_sealed
from omnictl.runs.files import writing

LARGEST_FILE = 2**30
"""Bytes of a model that is read."""

MOST_REMEMBERED = 2**26
"""Bytes of probabilities kept for contexts that come again; beyond them all are forgotten."""

State = tuple[int, ...]
"""The last ids, at most order - 1 of them; the first may be the begin of the text."""


class Order(NamedTuple):
    """The n-grams of one length, as in `omnictl.metrics.ngram`: `kept / total + backoff / total · shorter`."""

    keys: NDArray[np.int64]  # (N,) sorted: row of the n-gram without its last id, one order below, * vocab_size + last id
    kept: NDArray[np.float64]  # (N,)
    context_totals: NDArray[np.float64]  # (C,)
    context_backoff: NDArray[np.float64]  # (C,)


class _Context(NamedTuple):
    """What is known of a state."""

    log_probs: NDArray[np.float64]  # (V,) of each id next, `BLANK` for the end
    successors: dict[int, State]  # those asked for so far


@dataclass(frozen=True, eq=False)
class CharNgram:
    """A `Scorer` (see `omnictl.generate.ctc_search`); see `fit`."""

    vocab_size: int
    orders: tuple[Order, ...]
    _contexts: dict[State, _Context] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def fit(cls, texts: Iterable[Sequence[int]], order: int = 6, *, vocab_size: int) -> "CharNgram":
        """Count n-grams up to length `order`.

        Args:
            texts: ids in [1, vocab_size), at least one text.
            order: the longest n-gram.
            vocab_size: number of ids, `BLANK` included.
        """
        stream = np.array([symbol for text in texts for symbol in (*text, BLANK)])
        model = NgramModel.fit(stream, order, vocab_size=vocab_size, end_token=BLANK)
        return cls(vocab_size, tuple(Order(o.keys, o.discounted, o.context_totals, o.context_backoff) for o in model.orders))

    def start(self) -> State:
        """The state before the first id."""
        return self._longest_context((BLANK,))

    def score(self, state: State, symbol: int) -> tuple[float, State]:
        """ln p of an id after a state, and the state after both."""
        context = self._context(state)
        successor = context.successors.get(symbol)
        if successor is None:
            successor = context.successors[symbol] = self._longest_context((*state, symbol))
        return float(context.log_probs[symbol]), successor

    def end(self, state: State) -> float:
        """ln p that the text ends after a state."""
        return float(self._context(state).log_probs[BLANK])

    def nats(self, text: Sequence[int]) -> float:
        """-ln p of a whole text, its end included."""
        state, total = self.start(), 0.0
        for symbol in text:
            log_prob, state = self.score(state, symbol)
            total -= log_prob
        return total - self.end(state)

    def save(self, path: Path) -> None:
        """Write a safetensors file.

        Raises:
            DiskFull: no space left.
            RunError: the folder is read-only.
        """
        arrays = {f"{k}.{name}": array for k, order in enumerate(self.orders) for name, array in order._asdict().items()}
        with writing(path):
            path.write_bytes(save({"vocab_size": np.array(self.vocab_size), **arrays}))

    @classmethod
    def load(cls, path: Path) -> "CharNgram":
        """Read what `save` wrote.

        Raises:
            CheckpointError: it is missing, cut off or something else.
        """
        try:
            arrays = load(read_sealed(path, LARGEST_FILE))
            vocab_size = int(arrays.pop("vocab_size"))
            orders = [Order(*(arrays[f"{k}.{name}"] for name in Order._fields)) for k in range(len(arrays) // len(Order._fields))]
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(
                f"{path} is not a character n-gram model: {error}",
                where=str(path),
                fix="train the speech recogniser anew, or decode without a language model",
            ) from error
        return cls(vocab_size, tuple(orders))

    def _context(self, state: State) -> _Context:
        context = self._contexts.get(state)
        if context is None:
            context = _Context(np.log(self._probabilities(state)), {})
            if len(self._contexts) * context.log_probs.nbytes >= MOST_REMEMBERED:
                self._contexts.clear()
            self._contexts[state] = context
        return context

    def _probabilities(self, state: State) -> NDArray[np.float64]:
        """(V,) of each id after a seen state, from the uniform distribution up to the longest context."""
        result = np.full(self.vocab_size, 1 / self.vocab_size)
        for length, order in enumerate(self.orders[: len(state) + 1]):
            row = self._row(state[len(state) - length :])
            total = order.context_totals[row]
            start, stop = np.searchsorted(order.keys, [row * self.vocab_size, (row + 1) * self.vocab_size])
            result *= order.context_backoff[row] / total
            result[order.keys[start:stop] % self.vocab_size] += order.kept[start:stop] / total
        return result

    def _longest_context(self, ids: State) -> State:
        """The longest end of some ids that has been seen as a context."""
        for length in range(min(len(ids), len(self.orders) - 1), 0, -1):
            end = ids[len(ids) - length :]
            row = self._row(end)
            if row >= 0 and self.orders[length].context_totals[row] > 0:
                return end
        return ()

    def _row(self, ids: State) -> int:
        """The row of an n-gram among those of its length, -1 if it has never been seen; contexts of length 0 have one row."""
        row = ids[0] if ids else 0  # every id has a row, seen or not
        for order, last in zip(self.orders[1:], ids[1:], strict=False):
            key = row * self.vocab_size + last
            row = int(order.keys.searchsorted(key))
            if row == order.keys.size or order.keys[row] != key:
                return -1
        return row
