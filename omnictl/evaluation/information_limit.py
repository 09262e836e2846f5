"""How far a language model is from the limit of what its data tells, on TinyWorld, where that limit is known exactly.

    excess_ratio = model nats ÷ grammar nats − 1, on the same documents, each read alone, its end included

Beside it: the same for an interpolated 5-gram on the same training tokens, and `determined_accuracy`, how often the model's
likeliest next word is right where the grammar leaves no choice but the 5-gram is unsure (below 0.9).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.data.text.token_store import TokenStore
from omnictl.data.text.tokenizer import END, Tokenizer
from omnictl.metrics.intervals import Estimate, error_rate, ratio
from omnictl.metrics.ngram import NgramModel
from omnictl.tinyworld import ScoredText, score

NGRAM_ORDER = 5
NGRAM_SURE = 0.9


class TokenScores(NamedTuple):
    """How a model rates the tokens of a store, aligned with `store.tokens`; the very first is not rated (0, False)."""

    nats: NDArray[np.float64]  # (tokens,)
    is_likeliest: NDArray[np.bool_]  # (tokens,) whether no other token was likelier


def document_sums(values: NDArray[np.floating], store: TokenStore) -> NDArray[np.float64]:
    """`(documents,)` sums of what every token of a store has, `(tokens,)`; its first token is of no document."""
    sums: NDArray[np.float64] = np.add.reduceat(values.astype(np.float64), store.bounds[:-1])
    return sums


def information_limit(
    documents: Sequence[str],
    tokenizer: Tokenizer,
    scores: TokenScores,
    *,
    store: TokenStore,
    training: NDArray[Any],
) -> dict[str, Estimate]:
    """Excess of a model over the grammar on the documents of a store.

    Args:
        documents: the texts, in the order of the store.
        tokenizer: the store's.
        scores: the model's.
        store: the documents' tokens.
        training: the tokens that the model was trained on, for the 5-gram.
    """
    grammar = [score(document) for document in documents]
    limits = np.array([scored.nats for scored in grammar])
    ngram = NgramModel.fit(training, order=NGRAM_ORDER, vocab_size=tokenizer.vocab_size, end_token=END)
    ngram_nats = np.concatenate(([0.0], -np.log(ngram.probabilities(store.tokens))))  # (tokens,)
    right, total = np.zeros(len(documents)), np.zeros(len(documents))
    for number, (document, scored, start) in enumerate(zip(documents, grammar, store.bounds[:-1], strict=True)):
        for first, stop in _determined_words(document, scored, tokenizer):
            if ngram_nats[start + first : start + stop].sum() > -np.log(NGRAM_SURE):
                total[number] += 1
                right[number] += bool(scores.is_likeliest[start + first : start + stop].all())
    nats = {"excess_ratio": scores.nats, "ngram_excess_ratio": ngram_nats}
    estimates = {
        name: ratio(document_sums(nats_of_tokens, store), limits, "share").plus(-1) for name, nats_of_tokens in nats.items()
    }
    estimates["excess_ratio"] = estimates["excess_ratio"].against("ngram_excess_ratio", estimates["ngram_excess_ratio"], "lower")
    if total.any():  # a handful of documents may have no such word
        estimates["determined_accuracy"] = error_rate(right, total)
    return estimates | {"optimal_loss": ratio(limits, np.diff(store.bounds))}


def _determined_words(document: str, scored: ScoredText, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Token ranges [first, stop) within the document of the words that the grammar leaves no choice about."""
    _, offsets = tokenizer.encode_with_offsets(document, markup=True)
    ends = np.array([end for _, end in offsets])
    starts = np.array([start for start, _ in offsets])
    words = [word for word in scored.words if word.log_prob == 0]
    first = np.searchsorted(ends, [word.start for word in words], side="right")  # first token ending inside the word
    stop = np.searchsorted(starts, [word.end for word in words], side="left")  # first token starting after it
    return list(zip(first.tolist(), stop.tolist(), strict=True))
