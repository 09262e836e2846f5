"""Whether an answer is right: the same words, or, of a description, nothing but what is true."""

import re
import unicodedata

_MARKS = re.compile(r"[^\w\s']")
_JOINTS = re.compile(r",\s*|\s+and\s+")


def plain(text: str) -> str:
    """A text in lower case, without marks and superfluous white space."""
    return " ".join(_MARKS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())


def is_same(answer: str, reference: str) -> bool:
    """Whether both have the same words."""
    return plain(answer) == plain(reference)


def statements(text: str) -> frozenset[str]:
    """What a list names: `A red ring and a blue star.` names `a red ring` and `a blue star`."""
    return frozenset(found for part in _JOINTS.split(text.strip().rstrip(".")) if (found := plain(part)))


def is_true(answer: str, reference: str) -> bool:
    """Whether an answer states something, and nothing that the reference, which states all there is, does not."""
    return bool(statements(answer)) and statements(answer) <= statements(reference)
