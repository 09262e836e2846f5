"""Signs in transcripts that are not words: `<COMMA>` of GigaSpeech, `[laughter]` and `<noise>` of many corpora, `<unk>`.

Punctuation that is spelled out becomes punctuation. What was heard besides words is dropped from the text. A word that nobody
wrote down cannot be learned. The first word of a sign decides, whatever follows: `[crosstalk 00:12:01]`. Brackets that begin with a
digit stay: `[12]`.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_PUNCTUATION = {"comma": ",", "period": ".", "questionmark": "?", "exclamationpoint": "!"}
_UNKNOWN = ("unk", "unknown", "unintelligible", "inaudible", "indiscernible", "unclear", "unverständlich", "xxx", "__")
_SIGN = re.compile(
    r"</?(?P<tag>[A-Za-z][\w-]*)\s*/?>"
    r"|\[\s*/?(?P<noise>[^\W\d_]+|__)[\w\s\u0300-\u036f:/.,'’-]{0,30}\]"  # marks, too, which a Mac writes behind their letters
)
_SHOWN = 5

logger = logging.getLogger(__name__)


class Annotated(NamedTuple):
    """A transcript without its signs."""

    text: str
    dropped: tuple[str, ...]
    """What was heard besides words, as it was written."""
    unknown: str | None
    """The first sign that stands for words that nobody wrote down."""


def read_annotations(text: str) -> Annotated:
    """A transcript whose signs are read: as punctuation, as something besides words, or as words that are unknown."""
    dropped: list[str] = []
    unknown: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name = (match["tag"] or match["noise"]).lower()
        if match["tag"] and name in _PUNCTUATION:
            return _PUNCTUATION[name]
        (unknown if name in _UNKNOWN else dropped).append(match[0])
        return " "

    plain = _SIGN.sub(replace, text)
    if plain == text:
        return Annotated(text, (), None)
    plain = re.sub(r"\s+([,.?!])", r"\1", " ".join(plain.split()))
    return Annotated(plain, tuple(dropped), unknown[0] if unknown else None)


def log_dropped(source: str, dropped: Iterable[str]) -> None:
    """Say which signs were dropped from the transcripts of a corpus, and how many of each."""
    counts = Counter(dropped)
    if counts:
        shown = ", ".join(f"{sign} ({count:,})" for sign, count in counts.most_common(_SHOWN))
        more = f" and {len(counts) - _SHOWN} more kinds" if len(counts) > _SHOWN else ""
        logger.info("%s: signs dropped from transcripts, as they are not words: %s%s", source, shown, more)
