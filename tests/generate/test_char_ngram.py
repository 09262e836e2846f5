import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from omnictl.errors import CheckpointError, RunError
from omnictl.generate import char_ngram
from omnictl.generate.char_ngram import CharNgram
from omnictl.generate.ctc_search import prefix_beam_search
from omnictl.metrics.ngram import NgramModel

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
VOCAB = len(ALPHABET) + 1

TRAIN = """the dog sees a red ball on the table
the cat sees a blue ball under the table
a small dog sits on the red chair
the small cat sits under the blue chair
is the ball on the table or under the chair
the red ball is under the small table
a cat and a dog sit on the blue table
the dog is small and the cat is red""".splitlines()

HELD_OUT = """the blue dog sits under the table
a red cat sees the small ball""".splitlines()


def ids(text: str) -> list[int]:
    return [ALPHABET.index(character) + 1 for character in text]


def fitted(order: int = 6) -> CharNgram:
    return CharNgram.fit(map(ids, TRAIN), order, vocab_size=VOCAB)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_rates_texts_as_the_model_of_the_metrics(order: int) -> None:
    rng = np.random.default_rng(0)
    train = [rng.integers(1, 5, length).tolist() for length in rng.integers(0, 12, 40)]
    model = CharNgram.fit(train, order, vocab_size=7)  # 5 and 6 are never seen
    stream = np.array([0, *itertools.chain.from_iterable((*text, 0) for text in train)])
    reference = NgramModel.fit(stream, order, vocab_size=7, end_token=0)
    for text in ([], [1], [5], [1, 2, 3, 4, 1, 2, 3], [4, 4, 6, 4, 4, 4, 1], *train[:10]):
        expected = -np.log(reference.probabilities(np.array([0, *text, 0]))).sum()
        assert model.nats(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("text", ["", "t", "the do", "zzz", "the cat sits on", "xt"])
def test_probabilities_sum_to_one(text: str) -> None:
    model = fitted()
    state = model.start()
    for symbol in ids(text):
        _, state = model.score(state, symbol)
    total = math.exp(model.end(state)) + sum(math.exp(model.score(state, symbol)[0]) for symbol in range(1, VOCAB))
    assert total == pytest.approx(1, abs=1e-12)


def test_longer_contexts_predict_held_out_text_better() -> None:
    nats = [sum(fitted(order).nats(ids(text)) for text in HELD_OUT) for order in (1, 2, 3, 6)]
    assert nats == sorted(nats, reverse=True)
    assert nats[-1] < 0.5 * nats[0]


def test_states_are_as_long_as_what_has_been_seen() -> None:
    model = fitted()
    _, state = model.score(model.start(), ids("t")[0])
    assert state == (0, *ids("t"))
    for symbol in ids("he table"):
        _, state = model.score(state, symbol)
    assert state == tuple(ids("table"))  # order - 1
    _, state = model.score(state, ids("z")[0])
    assert state == ()


def test_helps_the_beam_search_where_the_audio_is_unclear() -> None:
    spoken = ids("the cat")
    probs = torch.full((2 * len(spoken), VOCAB), 1e-4)
    probs[::2, 0] = 1.0
    probs[torch.arange(1, len(probs), 2), torch.tensor(spoken)] = 1.0
    probs[3, ids("xh")] = torch.tensor([0.55, 0.45])  # the h sounds a little more like an x
    log_probs = (probs / probs.sum(-1, keepdim=True)).log()
    assert prefix_beam_search(log_probs)[0].ids == ids("txe cat")
    assert prefix_beam_search(log_probs, scorer=fitted())[0].ids == spoken


def test_what_is_remembered_of_contexts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [fitted().nats(ids(text)) for text in TRAIN]
    monkeypatch.setattr(char_ngram, "MOST_REMEMBERED", 5 * 8 * VOCAB)
    model = fitted()
    for text, nats in zip(TRAIN, expected, strict=True):
        assert model.nats(ids(text)) == nats
        assert len(model._contexts) <= 5


def test_is_the_same_after_saving(tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "characters.safetensors")
    again = CharNgram.load(tmp_path / "characters.safetensors")
    assert again.vocab_size == VOCAB
    for text in HELD_OUT:
        assert again.nats(ids(text)) == model.nats(ids(text))
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "characters.safetensors").read_bytes()


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "characters.safetensors"
    with pytest.raises(CheckpointError, match=r"characters\.safetensors is not a character n-gram model"):
        CharNgram.load(path)
    fitted().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a character n-gram model") as caught:
        CharNgram.load(path)
    assert caught.value.fix == "train the speech recogniser anew, or decode without a language model"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot create a folder at"):
        fitted().save(tmp_path / "missing" / "characters.safetensors")
