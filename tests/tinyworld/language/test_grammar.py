from collections import Counter
from collections.abc import Iterator
from math import exp, fsum, log
from random import Random

import pytest

from omnictl.tinyworld.language.grammar import END, Grammar, NotInGrammar, ScoredText, Writer, render, sample, score


def toy(w: Writer) -> None:
    """Names that are recalled, options that share words, weights, and a choice to stop."""
    name = w.pick(("Anna", "Tom"), (3, 1))
    w.say("has")
    w.pick(("a red ball", "a red hat", "a cup", "two cups"), (1, 2, 3, 4))
    if w.pick((".", ", and so on.")) == ".":
        for _ in range(2):
            if w.pick(("I like", END), (1, 3)) == END:
                return
            w.say(f"{name}.")
    w.say(END)


class Replay:
    """Takes given choices, then always the first; notes how many there were."""

    def __init__(self, choices: list[int]) -> None:
        self.choices = choices
        self.sizes: list[int] = []
        self.phrases: list[str] = []
        self.probability = 1.0

    def say(self, phrase: str) -> None:
        self.phrases.append(phrase)

    def pick(self, options: tuple[str, ...], weights: tuple[int, ...] | None = None) -> str:
        taken = self.choices[len(self.sizes)] if len(self.sizes) < len(self.choices) else 0
        self.sizes.append(len(options))
        shares = weights or (1,) * len(options)
        self.probability *= shares[taken] / sum(shares)
        self.phrases.append(options[taken])
        return options[taken]


def derivations(grammar: Grammar) -> Iterator[tuple[str, float]]:
    """Every text of a finite grammar with its probability, by trying all choices."""
    pending: list[list[int]] = [[]]
    while pending:
        choices = pending.pop()
        replay = Replay(choices)
        grammar(replay)
        yield render(replay.phrases), replay.probability
        for position in range(len(choices), len(replay.sizes)):
            stem = choices + [0] * (position - len(choices))
            pending += [[*stem, other] for other in range(1, replay.sizes[position])]


def words_and_end(text: str, scored: ScoredText) -> list[tuple[str, float]]:
    return [(text[start:end], log_prob) for start, end, log_prob in scored.words] + [(END, scored.end_log_prob)]


def test_every_text_has_one_derivation_and_they_sum_to_one() -> None:
    texts = list(derivations(toy))
    assert len(texts) == 2 * 4 * 4
    assert len({text for text, _ in texts}) == len(texts)
    assert fsum(probability for _, probability in texts) == pytest.approx(1.0)


def test_scores_are_the_probabilities_of_the_choices() -> None:
    for text, probability in derivations(toy):
        assert exp(-score(toy, text).nats) == pytest.approx(probability, rel=1e-12)


def test_each_word_has_its_probability_given_all_words_before() -> None:
    mass: Counter[tuple[str, ...]] = Counter()
    scored = {text: words_and_end(text, score(toy, text)) for text, _ in derivations(toy)}
    for text, probability in derivations(toy):
        words = tuple(word for word, _ in scored[text])
        for length in range(len(words) + 1):
            mass[words[:length]] += probability  # type: ignore[assignment]
    for entries in scored.values():
        words = tuple(word for word, _ in entries)
        for position, (_, log_prob) in enumerate(entries):
            assert log_prob == pytest.approx(log(mass[words[: position + 1]] / mass[words[:position]]), abs=1e-12)


def test_certain_words_score_exactly_zero() -> None:
    text = "Tom has a red hat. I like Tom."
    certain = [log_prob == 0.0 for _, log_prob in words_and_end(text, score(toy, text))]
    #                  Tom    has   a      red    hat    .      I      like  Tom   .     END
    assert certain == [False, True, False, False, False, False, False, True, True, True, False]


def test_samples_come_as_often_as_their_probability() -> None:
    rng, number = Random(7), 40_000
    counts = Counter(sample(toy, rng) for _ in range(number))
    for text, probability in derivations(toy):
        spread = (number * probability * (1 - probability)) ** 0.5
        assert abs(counts[text] - number * probability) < 5 * spread + 1
    assert sum(counts.values()) == number


@pytest.mark.parametrize("options", [("red", "red ball"), ("red", "red"), ("Red", "red hat")])
def test_options_of_which_one_begins_another_are_refused(options: tuple[str, ...]) -> None:
    def ambiguous(w: Writer) -> None:
        w.pick(options)
        w.say(END)

    with pytest.raises(AssertionError, match="one option begins another"):
        score(ambiguous, "Red")


def test_render_spaces_and_capitals() -> None:
    markup = ["<|im_start|>user\n", "hello", ", I am", "Tom", ". is this", "Anna", "'s cup", "?", "<|im_end|>\n<|im_start|>", END]
    assert render(markup) == "<|im_start|>user\nHello, I am Tom. Is this Anna's cup?<|im_end|>\n<|im_start|>"


def test_spans_cover_everything_but_spaces() -> None:
    def talk(w: Writer) -> None:
        w.say("<|im_start|>user\n")
        w.say("is this")
        w.pick(("Anna", "Tom"))
        w.say("'s cup?<|im_end|>")
        w.say(END)

    text = "<|im_start|>user\nIs this Tom's cup?<|im_end|>"
    words = [text[start:end] for start, end, _ in score(talk, text).words]
    assert words == ["<|im_start|>", "user", "\n", "Is", "this", "Tom", "'s", "cup", "?", "<|im_end|>"]


@pytest.mark.parametrize(
    ("text", "start", "found", "expected"),
    [
        ("Ben has a cup.", 0, "'Ben'", "'anna' or 'tom'"),
        ("Anna has a blue ball.", 11, "'blue'", "'red' or 'cup'"),
        ("Anna has a cup. I like Tom.", 23, "'Tom'", "'anna'"),
        ("Anna has a cup", 14, "the end", "'.' or ','"),
        ("Anna has a cup, and so on. I like Anna.", 27, "'I'", "the end"),
        ("Anna  has a cup.", 5, "' '", "'h'"),
        ("Anna has a Cup.", 11, "'C'", "'c'"),
        ("Anna has a cup. ", 15, "' '", "the end"),
        ("", 0, "the end", "'anna' or 'tom'"),
    ],
)
def test_foreign_texts_are_refused_at_their_first_wrong_character(text: str, start: int, found: str, expected: str) -> None:
    with pytest.raises(NotInGrammar) as caught:
        score(toy, text)
    assert f"at character {start} it has {found}, expected {expected}" in caught.value.message
    assert caught.value.where == f"character {start}"
    assert caught.value.fix


def test_a_grammar_that_does_not_end_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="END last"):
        sample(lambda w: w.say("hello"), Random(0))
