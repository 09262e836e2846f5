import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from omnictl.generate.ctc_search import Span, WordSpan, align, greedy, prefix_beam_search, word_spans, words_of_path
from omnictl.nn.losses.ctc import BLANK, ctc_nats

FRAMES, VOCAB = 5, 4
EVERYTHING = VOCAB**FRAMES
Ids = tuple[int, ...]


def scores(seed: int, frames: int = FRAMES, vocab: int = VOCAB) -> Tensor:
    return (2 * torch.randn(frames, vocab, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def collapsed(path: Ids) -> Ids:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK)


def paths(log_probs: Tensor) -> list[tuple[Ids, float]]:
    """Every path and its ln p."""
    rows = log_probs.tolist()
    every = itertools.product(range(log_probs.shape[1]), repeat=len(rows))
    return [(path, sum(row[symbol] for row, symbol in zip(rows, path, strict=True))) for path in every]


def label_nats(log_probs: Tensor) -> dict[Ids, float]:
    """-ln p of every text that the frames allow, by the definition."""
    masses: defaultdict[Ids, float] = defaultdict(float)
    for path, log_prob in paths(log_probs):
        masses[collapsed(path)] += math.exp(log_prob)
    return {ids: -math.log(mass) for ids, mass in masses.items()}


class Bigrams:
    """A language model by hand; its states count how often it is asked."""

    def __init__(self) -> None:
        # Row: the id before, `BLANK` at the start; column `BLANK`: the end.
        self.log_probs: list[list[float]] = scores(99, VOCAB, VOCAB).tolist()
        self.asked: list[tuple[int, int]] = []

    def start(self) -> int:
        return BLANK

    def score(self, state: int, symbol: int) -> tuple[float, int]:
        self.asked.append((state, symbol))
        return self.log_probs[state][symbol], symbol

    def end(self, state: int) -> float:
        return self.log_probs[state][BLANK]

    def whole(self, ids: Ids) -> float:
        return sum(self.log_probs[a][b] for a, b in itertools.pairwise((BLANK, *ids, BLANK)))


def test_greedy_merges_repeats_and_drops_blanks_inside_the_lengths() -> None:
    rows = [[0, 1, 1, 0, 1, 2, 2, 3], [3, 3, 0, 0, 3, 1, 1, 1], [0] * 8, [2] * 8]
    log_probs = torch.nn.functional.one_hot(torch.tensor(rows), VOCAB).double().log_softmax(-1)
    assert greedy(log_probs, torch.tensor([8, 5, 8, 0])) == [[1, 1, 2, 3], [3, 3], [], []]


@pytest.mark.parametrize("seed", range(4))
def test_an_endless_beam_is_the_sum_over_all_paths(seed: int) -> None:
    log_probs = scores(seed)
    expected = label_nats(log_probs)
    found = prefix_beam_search(log_probs, beam_width=EVERYTHING, symbol_floor=0)
    assert {tuple(hypothesis.ids) for hypothesis in found} == set(expected)
    for hypothesis in found:
        assert hypothesis.nats == pytest.approx(expected[tuple(hypothesis.ids)], rel=1e-12)
        assert hypothesis.score == -hypothesis.nats
    assert [h.nats for h in found] == sorted(h.nats for h in found)


@pytest.mark.parametrize("weight", [1.0, 0.6, 0.0])
def test_an_endless_beam_with_a_scorer_is_rescoring(weight: float) -> None:
    log_probs, bigrams = scores(0), Bigrams()
    nats = label_nats(log_probs)
    expected = {ids: -nats[ids] + weight * bigrams.whole(ids) for ids in nats}
    found = prefix_beam_search(log_probs, beam_width=EVERYTHING, symbol_floor=0, scorer=bigrams, scorer_weight=weight)
    assert {tuple(h.ids): h.score for h in found} == pytest.approx(expected)
    assert {tuple(h.ids): h.nats for h in found} == pytest.approx(nats)
    assert [h.score for h in found] == pytest.approx(sorted(expected.values(), reverse=True))


def test_adds_up_what_the_likeliest_path_misses() -> None:
    # Graves 2012, figure 7.8: the likeliest path is all blanks (0.36), the likeliest text is not (0.64).
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert greedy(log_probs[None], torch.tensor([2])) == [[]]
    best, second = prefix_beam_search(log_probs)
    assert (best.ids, second.ids) == ([1], [])
    assert math.exp(-best.nats) == pytest.approx(0.64)


def test_a_narrow_beam_is_nearly_as_good_and_never_too_sure() -> None:
    log_probs = scores(5, frames=60, vocab=12)
    best = prefix_beam_search(log_probs, beam_width=200, symbol_floor=0)[0]
    narrow = prefix_beam_search(log_probs, beam_width=12)
    assert len(narrow) == 12
    for hypothesis in narrow:
        ids = torch.tensor([hypothesis.ids])
        exact = ctc_nats(log_probs[None], torch.tensor([60]), ids, torch.tensor([ids.numel()]))
        assert hypothesis.nats >= float(exact) - 1e-9
    assert best.nats <= narrow[0].nats < best.nats + 1


def test_long_and_certain_recordings_do_not_underflow() -> None:
    log_probs = torch.full((5000, 30), -40.0)
    log_probs[torch.arange(5000), torch.arange(5000) % 30] = -2.0  # each frame takes a factor off: e^-10000 in the end
    (best, *_) = prefix_beam_search(log_probs, beam_width=4)
    assert best.ids == [symbol for symbol in (torch.arange(5000) % 30).tolist() if symbol != BLANK]
    assert best.nats == pytest.approx(10_000)


def test_improbable_symbols_are_not_tried_but_the_likeliest_always_is() -> None:
    log_probs = torch.tensor([[0.05, 0.85, 0.1], [0.1, 0.3, 0.6]]).log()
    assert {tuple(h.ids) for h in prefix_beam_search(log_probs, symbol_floor=0.2)} == {(1,), (1, 2)}
    assert [h.ids for h in prefix_beam_search(log_probs, symbol_floor=1)] == [[1, 2]]


def test_a_prefix_is_rated_once() -> None:
    bigrams = Bigrams()
    prefix_beam_search(scores(0), beam_width=EVERYTHING, symbol_floor=0, scorer=bigrams)
    assert len(bigrams.asked) == len(label_nats(scores(0))) - 1


def test_no_frames_say_nothing() -> None:
    (only,) = prefix_beam_search(torch.zeros(0, VOCAB))
    assert only == ([], 0.0, 0.0)


@pytest.mark.parametrize("ids", [(1,), (1, 2, 3), (2, 2), (1, 1, 1), (3, 2, 2, 1), (1, 2, 3, 2, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_aligns_along_the_likeliest_path(ids: Ids, seed: int) -> None:
    log_probs = scores(seed)
    best, _ = max(((path, p) for path, p in paths(log_probs) if collapsed(path) == ids), key=lambda pair: pair[1])
    spelled = [BLANK] * FRAMES
    for symbol, (start, stop) in zip(ids, align(log_probs, ids), strict=True):
        assert start < stop
        spelled[start:stop] = [symbol] * (stop - start)
    assert tuple(spelled) == best


def test_nothing_to_align() -> None:
    assert align(scores(0), []) == []


@pytest.mark.parametrize(("ids", "needed"), [([1, 2, 3, 1, 2, 3], 6), ([1, 1, 1, 2], 6)])
def test_what_does_not_fit_cannot_be_aligned(ids: list[int], needed: int) -> None:
    with pytest.raises(ValueError, match=f"{len(ids)} symbols need {needed} frames, found 5"):
        align(scores(0), ids)


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_alignment_refuses_what_its_kernel_cannot_take(value: float) -> None:
    log_probs = scores(0)
    log_probs[:, BLANK] = value
    with pytest.raises(ValueError, match="not finite"):
        align(log_probs, [1, 1])


def test_words_reach_from_their_first_character_to_their_last() -> None:
    text = " a cat  sat"
    spans = [Span(2 * i, 2 * i + 1) for i in range(len(text))]
    assert word_spans(text, spans) == [WordSpan("a", 2, 3), WordSpan("cat", 6, 11), WordSpan("sat", 16, 21)]
    assert word_spans("", []) == word_spans("  ", spans[:2]) == []


def test_words_need_a_span_for_each_character() -> None:
    with pytest.raises(ValueError, match="3 characters have 2 spans"):
        word_spans("cat", [Span(0, 1), Span(1, 2)])


def test_words_of_a_path_stretch_from_letter_to_letter() -> None:
    # 1 is a space, 2 to 4 are letters, 5 is a piece with a space inside.
    texts = {1: " ", 2: "a", 3: "b", 4: "c", 5: "c a"}

    def decode(ids: Ids) -> str:
        return "".join(texts[symbol] for symbol in ids)

    path = [BLANK, 2, 2, BLANK, 2, 1, BLANK, 3, BLANK, BLANK, 4, 1, 1, 5, BLANK]
    assert words_of_path(path, decode) == [
        WordSpan("aa", 1, 5),
        WordSpan("bc", 7, 11),
        WordSpan("c", 13, 14),
        WordSpan("a", 13, 14),
    ]
    assert words_of_path([BLANK, 1, BLANK], decode) == []
