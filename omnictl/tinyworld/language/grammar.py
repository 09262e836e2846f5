"""An unambiguous probabilistic grammar, written as ordinary functions, and the exact probability of every word of its texts.

A grammar is a function that writes one document to a `Writer`: `say` for fixed words, `pick` for a choice. The same function
runs against two writers: `Sampler` draws the choices, `Scorer` reads them off a given text and adds up their log-probabilities.

Exactness rests on one rule, asserted for every choice: no option's words are the beginning of another's. Then each next word of a
text settles which options are left, so a text has one derivation, found with a look-ahead of one word (the grammar is LL(1) over
words), and P(word | all words before) is the ratio of the weights that remain to the weights that remained before it.

Words are letters, `'s`, one punctuation mark, a newline or a ChatML marker. Spaces and capitals at sentence starts are not chosen
but follow from the words (`render`), so words and text determine each other. Numbers are written as words.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import fsum, log
from random import Random
from typing import NamedTuple, Protocol

from omnictl.errors import DataError

END = "<end>"
"""The option that ends a document, and the last thing every grammar says. It writes no character."""

_WORD = re.compile(r"<\|im_start\|>|<\|im_end\|>|\n|'s|[A-Za-z]+|[^\sA-Za-z]")
_NO_SPACE = re.compile(r" (?=[.,?!\n]|'s|<\|im_end\|>)|(?<=\n) |(?<=<\|im_start\|>) ")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] )|(?<=\n))[a-z]")


class Writer(Protocol):
    """Takes down a document, phrase by phrase. A phrase is words as they read in mid-sentence: `"is in the box."`."""

    def say(self, phrase: str) -> None:
        """Write words that are certain at this point."""

    def pick(self, options: tuple[str, ...], weights: tuple[int, ...] | None = None) -> str:
        """Write one of `options` (equally likely without `weights`) and return it; no option may begin another."""


Grammar = Callable[[Writer], None]


class ScoredWord(NamedTuple):
    """The characters `text[start:end]` of one word, and ln P(word | all words before it)."""

    start: int
    end: int
    log_prob: float


class ScoredText(NamedTuple):
    """The exact probability of a text: `nats = -(sum of the words' log-probabilities + end_log_prob)`.

    The spaces between words belong to no word: they say nothing that the word after them does not say.
    """

    nats: float
    words: tuple[ScoredWord, ...]
    end_log_prob: float


class NotInGrammar(DataError):
    """A text that the grammar cannot produce."""

    def __init__(self, actual: str, expected: str, start: int) -> None:
        super().__init__(
            f"The grammar does not produce this text: at character {start} it has {actual}, expected {expected}.",
            fix="Score only unchanged documents of the same version of TinyWorld.",
            where=f"character {start}",
        )


def sample(grammar: Grammar, rng: Random) -> str:
    """Draw a document. Only `rng.random()` is used, which every Python version computes alike."""
    sampler = Sampler(rng)
    grammar(sampler)
    return render(sampler.phrases)


def score(grammar: Grammar, text: str) -> ScoredText:
    """Follow `text` through `grammar`.

    Raises:
        NotInGrammar: naming the first character at which no derivation goes on.
    """
    scorer = Scorer(text)
    grammar(scorer)
    return scorer.result()


def render(phrases: Sequence[str]) -> str:
    """The text of a document, from its phrases in order; the last is END."""
    assert phrases[-1] == END, "a grammar must say END last"
    text = _NO_SPACE.sub("", " ".join(phrases[:-1]))
    return _SENTENCE_START.sub(lambda first: first[0].upper(), text)


class Sampler:
    """Writes a random document. That options are distinguishable is not checked here, for speed: `Scorer` does."""

    def __init__(self, rng: Random) -> None:
        self.phrases: list[str] = []
        self._random = rng.random

    def say(self, phrase: str) -> None:
        """Append `phrase`."""
        self.phrases.append(phrase)

    def pick(self, options: tuple[str, ...], weights: tuple[int, ...] | None = None) -> str:
        """Draw one of `options` and append it."""
        if weights is None:
            option = options[int(self._random() * len(options))]
        else:
            bounds = _cumulative(weights)
            option = options[bisect_right(bounds, self._random() * bounds[-1])]
        self.phrases.append(option)
        return option


class Scorer:
    """Reads a given document, and knows how likely each of its words was."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._spans = [match.span() for match in _WORD.finditer(text)] + [(len(text), len(text))]
        self._words = [text[start:end].casefold() for start, end in self._spans[:-1]] + [END]
        self._log_probs: list[float] = []
        self._phrases: list[str] = []

    def say(self, phrase: str) -> None:
        """Read the words of `phrase`, which are certain."""
        for word in _words_of(phrase):
            self._read({word: 0.0})
        self._phrases.append(phrase)

    def pick(self, options: tuple[str, ...], weights: tuple[int, ...] | None = None) -> str:
        """Read words until one of `options` is complete, and return it."""
        node = _choice(options, weights)
        while node.option is None:
            node = node.after[self._read(node.log_probs)]
        self._phrases.append(node.option)
        return node.option

    def result(self) -> ScoredText:
        """The scores, once the grammar has said END."""
        rendered = render(self._phrases)
        if rendered != self._text:
            self._reject_form(rendered)
        *log_probs, end_log_prob = self._log_probs
        words = tuple(ScoredWord(*span, log_prob) for span, log_prob in zip(self._spans, log_probs, strict=False))
        return ScoredText(-fsum(self._log_probs), words, end_log_prob)

    def _read(self, log_probs: dict[str, float]) -> str:
        position = len(self._log_probs)
        assert position < len(self._words), "the grammar goes on after END"
        word = self._words[position]
        if word not in log_probs:
            start, end = self._spans[position]
            raise NotInGrammar(_quote(self._text[start:end]), _list_words(log_probs), start)
        self._log_probs.append(log_probs[word])
        return word

    def _reject_form(self, rendered: str) -> None:
        """The words are right; report the first space or capital that is not."""
        pairs = enumerate(zip(self._text, rendered, strict=False))
        start = next((i for i, (character, expected) in pairs if character != expected), min(len(self._text), len(rendered)))
        raise NotInGrammar(_quote(self._text[start : start + 1]), _quote(rendered[start : start + 1]), start)


class _Node(NamedTuple):
    """A point inside a choice: which words may come next and where they lead; `option` where one is complete."""

    option: str | None
    log_probs: dict[str, float]
    after: dict[str, "_Node"]


class _Option(NamedTuple):
    phrase: str
    words: tuple[str, ...]
    weight: int


@lru_cache(maxsize=100_000)
def _choice(options: tuple[str, ...], weights: tuple[int, ...] | None) -> _Node:
    weighted = zip(options, weights or (1,) * len(options), strict=True)
    return _node([_Option(phrase, _words_of(phrase), weight) for phrase, weight in weighted], depth=0)


def _node(options: list[_Option], depth: int) -> _Node:
    """The node that `options` share: they agree in their first `depth` words."""
    if any(len(option.words) == depth for option in options):
        assert len(options) == 1, f"one option begins another: {[option.phrase for option in options]}"
        return _Node(options[0].phrase, {}, {})
    groups: dict[str, list[_Option]] = {}
    for option in options:
        groups.setdefault(option.words[depth], []).append(option)
    total = sum(option.weight for option in options)
    log_probs = {word: log(sum(option.weight for option in group) / total) for word, group in groups.items()}
    return _Node(None, log_probs, {word: _node(group, depth + 1) for word, group in groups.items()})


@lru_cache(maxsize=100_000)
def _words_of(phrase: str) -> tuple[str, ...]:
    return (END,) if phrase == END else tuple(word.casefold() for word in _WORD.findall(phrase))


@lru_cache(maxsize=1_000)
def _cumulative(weights: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(accumulate(weights))


def _quote(text: str) -> str:
    return repr(text) if text else "the end"


def _list_words(words: dict[str, float], most: int = 8) -> str:
    names = ["the end" if word == END else repr(word) for word in list(words)[:most]]
    rest = f" or {len(words) - most} others" if len(words) > most else ""
    return " or ".join(names) + rest
