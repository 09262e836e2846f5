from collections import Counter, defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.metrics.ngram import NgramModel

END, VOCAB = 0, 6


def stream(seed: int, num_documents: int = 12) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, num_documents)
    return np.concatenate([[*rng.integers(1, VOCAB - 1, length), END] for length in lengths]).astype(np.int64)  # id 5 is never seen


def documents(tokens: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """Each document between the end token before it and its own."""
    result, current = [], [END]
    for token in tokens.tolist():
        current.append(token)
        if token == END:
            result.append(tuple(current))
            current = [END]
    return result


class BruteForce:
    """The definition, gram by gram, with dictionaries."""

    def __init__(self, tokens: NDArray[np.int64], order: int) -> None:
        self.order = order
        counts: Counter[tuple[int, ...]] = Counter()
        before: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        for text in documents(tokens):
            for end in range(2, len(text) + 1):
                for length in range(1, min(order, end) + 1):
                    gram = text[end - length : end]
                    counts[gram] += 1
                    if end > length:
                        before[gram].add(text[end - length - 1])
        self.counts = {
            gram: count if len(gram) == order or not before[gram] else len(before[gram]) for gram, count in counts.items()
        }
        self.discounts = [0.0]
        for length in range(1, order + 1):
            of_counts = Counter(count for gram, count in self.counts.items() if len(gram) == length)
            self.discounts.append(of_counts[1] / (of_counts[1] + 2 * of_counts[2]) if of_counts[1] else 0.5)

    def probability(self, context: tuple[int, ...], token: int) -> float:
        shorter = self.probability(context[1:], token) if context else 1 / VOCAB
        followers = [count for gram, count in self.counts.items() if gram[:-1] == context]
        if not followers:
            return shorter
        discount = self.discounts[len(context) + 1]
        kept = max(self.counts.get((*context, token), 0) - discount, 0.0)
        return (kept + discount * len(followers) * shorter) / sum(followers)

    def probabilities(self, tokens: NDArray[np.int64]) -> list[float]:
        result, text = [], [int(tokens[0])]
        for token in tokens[1:].tolist():
            result.append(self.probability(tuple(text[max(0, len(text) - self.order + 1) :]), token))
            text = [END] if token == END else [*text, token]
        return result


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_the_definition(order: int, seed: int) -> None:
    train = stream(seed)
    model = NgramModel.fit(train, order, vocab_size=VOCAB, end_token=END)
    definition = BruteForce(train, order)
    for test in (train, np.concatenate([[END], stream(seed + 50), [5, 1, 2, END]]), np.array([3, 1, 2, 4])):
        np.testing.assert_allclose(model.probabilities(test), definition.probabilities(test), rtol=1e-12)


@pytest.mark.parametrize("context", [[END], [END, 2], [END, 1, 3], [1, 2, 3, 4], [END, 5, 1], [4, 4, 2, 1, 3, 2]])
def test_sums_to_one_over_the_vocabulary(context: list[int]) -> None:
    model = NgramModel.fit(stream(3, num_documents=200), vocab_size=VOCAB, end_token=END)
    total = sum(model.probabilities(np.array([*context, token]))[-1] for token in range(VOCAB))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_no_context_crosses_a_document_boundary() -> None:
    train = stream(4, num_documents=200)
    model = NgramModel.fit(train, vocab_size=VOCAB, end_token=END)
    for before in ([1, 2, 3], [4, 4, 4]):
        after = model.probabilities(np.array([END, *before, END, 2, 1, 3]))[-3:]
        np.testing.assert_array_equal(after, model.probabilities(np.array([END, 2, 1, 3])))


def test_uses_as_much_context_as_its_order() -> None:
    # The last word of a document repeats its first, three words before: a fourth-order model sees it, a third-order one cannot.
    rng = np.random.default_rng(0)
    train = np.concatenate([[first, 4, 4, first, END] for first in rng.integers(1, 4, 500)])
    test = np.concatenate([[END], train[:500]])
    last_words = np.arange(500) % 5 == 3
    nearsighted = NgramModel.fit(train, 3, vocab_size=VOCAB, end_token=END).probabilities(test)[last_words]
    sighted = NgramModel.fit(train, 4, vocab_size=VOCAB, end_token=END).probabilities(test)[last_words]
    assert nearsighted.max() < 0.45
    assert sighted.min() > 0.9


def test_unseen_tokens_and_a_corpus_without_singletons_keep_all_probabilities_positive() -> None:
    train = np.tile([1, 2, END], 50)
    model = NgramModel.fit(train, vocab_size=VOCAB, end_token=END)
    assert model.probabilities(np.array([END, 5, 5, 3, END])).min() > 0
