"""Scoring of answers: the same words, or, of a description, only true statements."""

import re
import unicodedata
from collections.abc import Iterator

_MARK = re.compile(r"(?!'|-\d)[^\w\s]|_")
_SENTENCES = re.compile(r"[.?!]\s*")
_JOINTS = re.compile(r",\s*|\s+and\s+")
_SUBJECT = re.compile(r"(the \w+) (?:is|are) ", re.IGNORECASE)


def plain(text: str) -> str:
    """A text in lower case, without punctuation and superfluous white space.

    Letters with their marks, digits and symbols of any script stay, and so do apostrophes and the sign of a number.
    """
    return " ".join(_MARK.sub(_drop_punctuation, unicodedata.normalize("NFKC", text).casefold()).split())


def _drop_punctuation(mark: re.Match[str]) -> str:
    return " " if unicodedata.category(mark[0])[0] == "P" else mark[0]


def is_same(answer: str, reference: str) -> bool:
    """Whether both have the same words."""
    return plain(answer) == plain(reference)


def statements(text: str) -> frozenset[str]:
    """What a description says, fact by fact.

    `A red ring and a blue star.` says `a red ring` and `a blue star`; `The star is big and blue.` says `the star big` and
    `the star blue`.
    """
    return frozenset(fact for sentence in _SENTENCES.split(text) for fact in _facts(sentence.strip()))


def _facts(sentence: str) -> Iterator[str]:
    subject = _SUBJECT.match(sentence)
    about, rest = (f"{subject[1]} ", sentence[subject.end() :]) if subject else ("", sentence)
    return (plain(about + part) for part in _JOINTS.split(rest) if plain(part))


def is_true(answer: str, reference: str) -> bool:
    """Whether an answer states something, and nothing that the reference, which states all there is, does not."""
    return bool(statements(answer)) and statements(answer) <= statements(reference)
