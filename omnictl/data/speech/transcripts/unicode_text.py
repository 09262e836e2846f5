"""Transcripts of any script: what Unicode says of a character decides, nothing that is known of a language.

NFKC, lower case; letters, their marks and digits stay, an apostrophe within a word too; all else parts words. Left out on purpose,
because it takes a language to do it: numbers are not read out, accents are not taken off, words of scripts without spaces are not
told apart (each character counts there, and `cer` is the figure to look at).
"""

import re
import unicodedata

_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼ′´`", "'"))
_STRAY = re.compile(r"(?<!\w)'|'(?!\w)")


def normalise(text: str) -> str:
    """A transcript as it is spelled, its words one space apart."""
    lower = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
    spelled = "".join(map(_spell, unicodedata.normalize("NFC", lower)))
    return " ".join(_STRAY.sub(" ", spelled).split())


def _spell(character: str) -> str:
    """The character itself, a space for what parts words, nothing for what is only there for typesetters."""
    category = unicodedata.category(character)
    if category[0] in "LMN" or character == "'":
        return character
    return "" if category == "Cf" else " "
