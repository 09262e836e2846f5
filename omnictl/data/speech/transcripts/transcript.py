"""Transcripts as targets of CTC: spelled in a fixed alphabet of space, apostrophe and a to z.

Numbers are read out, accents taken off, punctuation dropped. Left out on purpose, because their reading depends on what is
meant: years (read as plain numbers), currencies, clock times, Roman numerals, abbreviations; `written_forms` chooses one for
what is to be said. What the alphabet cannot hold is never dropped unnoticed: `foreign_characters` names it, and the row is for
the caller to report.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import inflect

ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
"""Character `ALPHABET[i]` is id `i + 1`; 0 is CTC's blank."""

_IDS = {character: index for index, character in enumerate(ALPHABET, start=1)}

_BEFORE_NFKC = str.maketrans({**dict.fromkeys("‘’‛ʼʻ′´`", "'"), "™": "", "℠": ""})
"""What it would tear: ´ becomes a space and a mark, ™ letters of the word before."""
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i"})
"""Latin letters that Unicode does not decompose, spelled as Whisper's normaliser does (`ADDITIONAL_DIACRITICS`), and ı."""
_BETWEEN_WORDS = re.compile(r"\.{2,}|[,;:!?/\\_]")
"""Punctuation that may stand between words without a space; other marks are dropped, as in "e.g." and "book(s)"."""

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(
    rf"(?P<ordinal>{_WHOLE})(?:st|nd|rd|th)\b"
    rf"|(?P<plural>{_WHOLE})'?s\b"  # the 1980s
    rf"|(?P<number>{_WHOLE}(?:\.[0-9]+)*|(?<!\w)\.[0-9]+)"
)
_LONGEST = 15
"""Digits; a longer number is not a quantity and is read digit by digit, as are numbers that start with a zero."""


def normalise(text: str) -> str:
    """A transcript in `ALPHABET`, its words one space apart; what `foreign_characters` names is missing from it."""
    text = read_numbers(_unify(text))
    text = text.replace("%", " percent ").replace("&", " and ").replace("⁄", " over ")  # NFKC's ½ is 1⁄2
    text = "".join(map(_spell, _BETWEEN_WORDS.sub(" ", text)))
    text = re.sub(r"(?<![a-z])'|'(?![a-z])", "", text)
    return " ".join(text.split())


def read_numbers(text: str) -> str:
    """A text with its numbers as words, all else as it was; ordinals and decades are known by small letters."""
    return _NUMBER.sub(_read_out, text)


def foreign_characters(text: str) -> str:
    """The letters and digits of a text that cannot be spelled in `ALPHABET`: lower case, sorted, each once."""
    return "".join(sorted(character for character in set(_unify(text)) if _is_foreign(character)))


def find_flaw(text: str) -> str | None:
    """Why a transcript cannot be spelled in `ALPHABET`, if it cannot."""
    foreign = foreign_characters(text)
    if foreign:
        return f"the transcript has characters outside the alphabet: {foreign}"
    return None if normalise(text) else f"the transcript {text!r} has no words"


def _is_foreign(character: str) -> bool:
    is_word_part = unicodedata.category(character)[0] in "LN"
    return is_word_part and not character.isascii() and not _spell(character)


def _unify(text: str) -> str:
    """Lower case, one code point for what looks alike."""
    # NFKC would make 102 of 10², and 31 of 3½ with its fraction.
    apart = "".join(f" {character} " if unicodedata.category(character) == "No" else character for character in text)
    return unicodedata.normalize("NFKC", apart.translate(_BEFORE_NFKC)).lower()


@cache
def _spell(character: str) -> str:
    """Letters of the alphabet or an apostrophe, a space for what parts words, else nothing."""
    category = unicodedata.category(character)
    if character.isspace() or category in ("Cc", "Pd") or category[0] == "S":
        return " "
    letters = unicodedata.normalize("NFKD", character).translate(_LETTERS)
    return "".join(letter for letter in letters if letter in ALPHABET)


def _read_out(match: re.Match[str]) -> str:
    """A number in words, set apart from what touches it."""
    kind = match.lastgroup
    assert kind is not None
    whole, *decimals = match[kind].replace(",", "").split(".")
    words = _cardinal(whole)
    for digits in decimals:
        words += f" point {_digit_by_digit(digits)}"
    if kind == "ordinal":
        words = _engine().ordinal(words)
    elif kind == "plural":
        words = _engine().plural(words)
    return f" {words} "


def _cardinal(digits: str) -> str:
    if len(digits) > _LONGEST or (digits.startswith("0") and digits != "0"):
        return _digit_by_digit(digits)
    return number_words(digits) if digits else ""


def _digit_by_digit(digits: str) -> str:
    return " ".join(map(number_words, digits))


@cache
def number_words(digits: str) -> str:
    """A whole number from 0 up, in digits, as words: `twenty-one`, `one hundred five`."""
    words = _engine().number_to_words(digits, andword="", comma="")
    assert isinstance(words, str)  # a list only if asked for
    return words


@cache
def _engine() -> "inflect.engine":
    import inflect  # noqa: PLC0415  takes a second, and many transcripts hold no digits

    return inflect.engine()


def encode(text: str) -> list[int]:
    """The ids, 1 to 28, of a normalised text."""
    return [_IDS[character] for character in text]


def decode(ids: Sequence[int]) -> str:
    """The text of ids without blanks."""
    assert all(1 <= index <= len(ALPHABET) for index in ids), "blanks are for the caller to take out"
    return "".join(ALPHABET[index - 1] for index in ids)
