import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.data.manifest.cache import cache_dir
from omnictl.data.text.tinyworld import TinyWorldText
from omnictl.data.text.token_store import TokenStore, open_store
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.evaluation import information_limit as information_limit_module
from omnictl.evaluation.information_limit import TokenScores, information_limit
from omnictl.tinyworld import score


class Setting(NamedTuple):
    documents: list[str]
    tokenizer: Tokenizer
    store: TokenStore
    training: NDArray[np.uint16]

    def metrics(self, scores: TokenScores) -> dict[str, float]:
        found = information_limit(self.documents, self.tokenizer, scores, store=self.store, training=self.training)
        return {name: one.value for name, one in found.items()}


@pytest.fixture(scope="module")
def setting() -> Setting:
    corpus = TinyWorldText(3, num_documents=80, num_eval_documents=8)
    tokenizer = Tokenizer.train_bpe(corpus.documents("train"), 500)
    store, training = (open_store(corpus, split, tokenizer, cache_dir()) for split in ("test", "train"))
    return Setting(list(corpus.documents("test")), tokenizer, store, training.tokens)


def grammar_itself(setting: Setting) -> TokenScores:
    """The model that knows the grammar: what a word costs is paid at its first token, what the end costs at the end."""
    nats = np.zeros(len(setting.store.tokens))
    for document, (start, stop) in zip(setting.documents, itertools.pairwise(setting.store.bounds), strict=True):
        _, offsets = setting.tokenizer.encode_with_offsets(document, markup=True)
        scored = score(document)
        for word in scored.words:
            token = next(n for n, (_, end) in enumerate(offsets) if end > word.start)
            nats[start + token] -= word.log_prob
        nats[stop - 1] -= scored.end_log_prob
    return TokenScores(nats, nats < math.log(2))


def test_the_grammar_is_at_the_limit_and_always_right_where_it_leaves_no_choice(setting: Setting) -> None:
    metrics = setting.metrics(grammar_itself(setting))
    assert abs(metrics["excess_ratio"]) <= 1e-9
    assert metrics["determined_accuracy"] == 1
    assert metrics["ngram_excess_ratio"] > 0.3
    nats = sum(score(document).nats for document in setting.documents)
    assert metrics["optimal_loss"] == pytest.approx(nats / setting.store.num_predictions)


def test_a_uniform_guess_is_far_from_it(setting: Setting) -> None:
    size = len(setting.store.tokens)
    nats = np.full(size, math.log(setting.tokenizer.vocab_size))
    nats[0] = 0
    metrics = setting.metrics(TokenScores(nats, np.zeros(size, np.bool_)))
    limit = metrics["optimal_loss"]
    assert metrics["excess_ratio"] == pytest.approx(math.log(setting.tokenizer.vocab_size) / limit - 1)
    assert metrics["excess_ratio"] > 2
    assert metrics["determined_accuracy"] == 0


def test_random_hits_are_seldom_whole_words(setting: Setting) -> None:
    hits = np.random.default_rng(0).random(len(setting.store.tokens)) < 0.3
    accuracy = setting.metrics(grammar_itself(setting)._replace(is_likeliest=hits))["determined_accuracy"]
    assert 0 < accuracy < 0.4


def test_a_word_is_right_only_if_all_its_tokens_are(setting: Setting) -> None:
    perfect = grammar_itself(setting)
    spoiled = perfect.is_likeliest.copy()
    spoiled[::2] = False
    assert setting.metrics(perfect._replace(is_likeliest=spoiled))["determined_accuracy"] < 0.6


def test_a_miss_where_the_grammar_leaves_a_choice_does_not_count(setting: Setting) -> None:
    perfect = grammar_itself(setting)
    free = perfect.nats > 0  # first tokens of words that are chosen
    hits = perfect.is_likeliest & ~free
    assert setting.metrics(perfect._replace(is_likeliest=hits))["determined_accuracy"] == 1


def test_without_a_word_to_judge_the_metrics_are_still_numbers(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(information_limit_module, "NGRAM_SURE", 1e-300)  # so the 5-gram counts as sure of every word
    metrics = setting.metrics(grammar_itself(setting))
    assert all(math.isfinite(value) for value in metrics.values())
