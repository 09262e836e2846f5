import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from omnictl.data.text.tokenizer import END, Tokenizer
from omnictl.generate.ctc_search import Hypothesis
from omnictl.generate.rescore import ThinkerRater, as_written, rescore
from omnictl.models.thinker import Thinker, ThinkerConfig

CONTEXT = 24
FOUND = [Hypothesis([1], -1.5, 2.0), Hypothesis([2, 3], -2.5, 3.0), Hypothesis([], -9.0, 10.0)]
TEXTS = ["one", "two words", ""]


def rating(*log_probs: float) -> Callable[[Sequence[str]], Sequence[float]]:
    def rate(texts: Sequence[str]) -> Sequence[float]:
        assert list(texts) == TEXTS
        return log_probs

    return rate


def test_the_score_is_the_audio_and_the_weighted_sentence() -> None:
    found = rescore(FOUND, TEXTS, rating(-8.0, -4.0, -1.0), weight=0.5)
    assert found == [Hypothesis([2, 3], -5.0, 3.0), Hypothesis([1], -6.0, 2.0), Hypothesis([], -10.5, 10.0)]


def test_without_weight_the_audio_decides() -> None:
    found = rescore(FOUND[::-1], TEXTS, rating(0.0, -50.0, -100.0), weight=0.0)
    assert [hypothesis.ids for hypothesis in found] == [[1], [2, 3], []]
    assert [hypothesis.score for hypothesis in found] == [-2.0, -3.0, -10.0]


def test_equal_scores_stay_in_order() -> None:
    found = rescore(FOUND, TEXTS, rating(-10.0, -9.0, -2.0), weight=1.0)
    assert [hypothesis.ids for hypothesis in found] == [[1], [2, 3], []]


def test_every_text_needs_a_rating() -> None:
    with pytest.raises(ValueError, match="shorter"):
        rescore(FOUND, TEXTS, rating(-1.0), weight=1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("the cat sat", "The cat sat"),
        ("i think i'm it", "I think I'm it"),
        ("so am i", "So am I"),
        ("iris is in", "Iris is in"),
        ("a", "A"),
        ("", ""),
    ],
)
def test_texts_as_they_are_written(text: str, sentence: str) -> None:
    assert as_written(text) == [f"{sentence}.", f"{sentence}?"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe(["The cat sat. Where is the cat? The dog ate. Is the dog in the house?"] * 3, 290)


@pytest.fixture(params=[0, 3], ids=["dense", "mixture"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer, randomise: Callable[[nn.Module], None]) -> Thinker:
    config = ThinkerConfig(layers=2, width=16, heads=4, kv_heads=2, hidden=24, context=CONTEXT, experts=request.param, dropout=0.5)
    thinker = Thinker(config, tokenizer.vocab_size).eval()
    randomise(thinker)
    for block in thinker.blocks.parameters():
        block.data *= 4
    return thinker


@torch.no_grad()
def reference(model: Thinker, tokenizer: Tokenizer, sentence: str) -> float:
    """ln p of one sentence, token by token."""
    ids = [END, *tokenizer.encode(sentence, markup=False)]
    log_probs = [model.logits(model(torch.tensor([ids[:at]])).hidden[0, -1]).log_softmax(-1)[ids[at]] for at in range(1, len(ids))]
    return float(torch.stack(log_probs).double().sum())


def test_sentences_are_rated_as_if_each_were_alone(model: Thinker, tokenizer: Tokenizer) -> None:
    sentences = ["The cat sat.", "?", "Is the dog in the house?", "Zoë's.", "The cat sat on."]
    lengths = {len(ids) for ids in tokenizer.encode_batch(sentences, markup=False)}
    assert len(lengths) > 2
    assert max(lengths) <= CONTEXT
    expected = [reference(model, tokenizer, sentence) for sentence in sentences]
    assert ThinkerRater(model, tokenizer).log_probs(sentences).tolist() == pytest.approx(expected, abs=1e-3)


def test_one_pass_for_all_hypotheses(model: Thinker, tokenizer: Tokenizer) -> None:
    shapes = []
    model.register_forward_pre_hook(lambda _, arguments: shapes.append(arguments[0].shape))
    ThinkerRater(model, tokenizer)(["the cat sat", "the dog ate the cat", ""])
    assert len(shapes) == 1
    assert shapes[0][0] == 6


def test_the_likelier_end_mark_counts(model: Thinker, tokenizer: Tokenizer) -> None:
    texts = ["the cat sat", "where is the cat", "", "the dog ate", "is the dog in the house"]
    pairs = [[reference(model, tokenizer, sentence) for sentence in as_written(text)] for text in texts]
    assert len({full_stop > question_mark for full_stop, question_mark in pairs}) == 2  # each is the likelier once
    assert ThinkerRater(model, tokenizer)(texts) == pytest.approx([max(pair) for pair in pairs], abs=1e-3)


def test_markup_in_a_text_is_no_markup(model: Thinker, tokenizer: Tokenizer) -> None:
    spelled, end = ThinkerRater(model, tokenizer).log_probs(["<|end|>", "."]).tolist()
    assert spelled == pytest.approx(reference(model, tokenizer, "<|end|>"), abs=1e-3)
    assert end == pytest.approx(reference(model, tokenizer, "."), abs=1e-3)


@pytest.mark.parametrize("context", [1, 2, 5, 8])
def test_a_text_longer_than_the_context_is_read_with_half_of_it_known(
    tokenizer: Tokenizer, randomise: Callable[[nn.Module], None], context: int
) -> None:
    model = Thinker(ThinkerConfig(layers=1, width=8, heads=2, kv_heads=1, hidden=8, context=context), tokenizer.vocab_size).eval()
    randomise(model)
    sentence = "Where is the dog that ate the cat?"
    ids = tokenizer.encode(sentence, markup=False)
    assert len(ids) > 12
    read, expected, start = [END, *ids], 0.0, 0
    for at, token in enumerate(ids):
        if at - start == context:
            start = at - context // 2
        with torch.no_grad():
            hidden = model(torch.tensor([read[start : at + 1]])).hidden[0, -1]
            expected += float(model.logits(hidden).log_softmax(-1)[token])
    short, long = ThinkerRater(model, tokenizer).log_probs(["?", sentence]).tolist()
    assert long == pytest.approx(expected, abs=1e-3)
    assert short == pytest.approx(reference(model, tokenizer, "?"), abs=1e-3)


def test_dropout_is_off(model: Thinker, tokenizer: Tokenizer) -> None:
    rater = ThinkerRater(model, tokenizer)
    assert rater(["the cat"]) == rater(["the cat"])
    with pytest.raises(AssertionError, match="random"):
        ThinkerRater(model.train(), tokenizer)


@pytest.fixture
def learned(tokenizer: Tokenizer) -> Thinker:
    """A Thinker that knows four short documents by heart."""
    torch.manual_seed(0)
    model = Thinker(ThinkerConfig(layers=1, width=32, heads=2, kv_heads=1, hidden=32, context=CONTEXT), tokenizer.vocab_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    documents = [
        [END, *tokenizer.encode(text, markup=False)]
        for text in ("The cat sat.", "Where is the cat?", "The dog ate.", "Is the dog in the house?")
    ]
    for _ in range(60):
        for ids in documents:
            logits = model.logits(model(torch.tensor([ids[:-1]])).hidden[0])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, torch.tensor(ids[1:])).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def test_what_has_been_read_is_likelier(learned: Thinker, tokenizer: Tokenizer) -> None:
    rater = ThinkerRater(learned, tokenizer)
    cat, kat, question, empty = rater(["the cat sat", "the kat sat", "where is the cat", ""])
    assert cat > math.log(0.1)
    assert question > math.log(0.1)
    assert kat < cat - 5
    assert empty < cat - 2  # an empty hypothesis is no way out
    texts = ["the kat sat", "the cat sat"]
    found = rescore([Hypothesis([1], -1.0, 1.0), Hypothesis([2], -2.0, 2.0)], texts, rater, weight=0.5)
    assert [hypothesis.ids for hypothesis in found] == [[2], [1]]
