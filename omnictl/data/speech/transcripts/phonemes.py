"""Text of any language as it is read aloud, in the phonemes of espeak-ng and the marks that are heard.

Numbers, dates and abbreviations are read as espeak-ng reads them in the language: they reach it whole, with their commas and full
stops. Left out on purpose: tones written as digits; words that espeak-ng reads in another language than the rest are not marked.
What takes a reader who understands is guessed: the full stop of "Plan B. Dann" ends no sentence, nor does that of "um 12. Dann" in
languages where "12." is "twelfth"; that of "etc. Dann" and "A. Weber" does.
"""

import re
import unicodedata
from functools import cache

from omnictl.data.speech.transcripts.spoken_text import MARKS, join_marked, marks_outside, split_at_marks
from omnictl.tinyworld.speech.phonemiser import phonemiser

PHONEMES = (
    " abcdefhijklmnopqrstuvwxyz"
    "æçðøħŋœɐɑɒɓɔɕɖɗɘəɚɛɜɝɞɟɠɡɢɣɤɥɦɧɨɪɫɬɭɮɯɰɱɲɳɴɵɶɸɹɺɻɽɾʀʁʂʃʄʈʉʊʋʌʍʎʏʐʑʒʔʕʘʙʛʝʟʡʢβθχᵻ"
    "ˈˌːˑʰʲʷˠˤ\u0303\u0329\u032f\u0361\u030a\u0325\u032a\u0306"
)
"""The letters, signs of stress and length and the diacritics of the International Phonetic Alphabet that espeak-ng writes."""

SYMBOLS = PHONEMES + MARKS
"""Symbol `SYMBOLS[i]` is id `i + 1`."""

_KNOWN = frozenset(PHONEMES)
_SWITCH = re.compile(r"\([a-z-]+\)")
"""Of language: `(en)` before an English word in German."""

_WITH_ORDINAL_STOPS = (
    "bs", "cs", "da", "de", "et", "eu", "fi", "fo", "hr", "hu", "is", "lb", "lv", "nb", "no", "pl", "sk", "sl", "sr", "tr",
)  # fmt: skip
"""Languages that write 5. for fifth."""
_ABBREVIATIONS = (
    "abb", "bijv", "bzw", "ca", "dhr", "dipl", "dott", "dr", "evtl", "ggf", "hr", "ing", "inkl", "mevr", "mme", "mr", "mrs", "např",
    "np", "nr", "prof", "resp", "sig", "sr", "sra", "st", "str", "tel", "tzv", "vgl", "vs", "гр", "см", "стр", "ул",
)  # fmt: skip
"""That stand before a word, and hardly ever at the end of a sentence."""
_LETTER = r"[^\W\d_]"
_SINGLE = r"[A-Za-z\u00c0-\u04ff]"
"""Of the scripts that shorten words to a letter: Latin, Greek, Cyrillic."""
_CONSONANT = r"[B-DF-HJ-NP-TV-XZb-df-hj-np-tv-xzбвгджзклмнпрстфхцчшБВГДЖЗКЛМНПРСТФХЦЧШ]"
_BEFORE_WORD = r"\.(?=\s+[^\W_])"
_WORDS = (
    r"\d+(?:,\d+)+"  # 3,50
    rf"|(?<![\w'’-])(?:(?:{_SINGLE}\.[ \u00a0\u202f]?)+{_SINGLE}(?=\.)(?:{_BEFORE_WORD})?"  # z. B., d. h.
    rf"|{_CONSONANT}{_BEFORE_WORD}"  # J. Weber
    rf"|(?i:{'|'.join(_ABBREVIATIONS)}){_BEFORE_WORD})"
)
_ORDINAL = rf"(?<![\w.,:])\d{{1,2}}\.(?=,|\s+{_LETTER})"


def pronounce(text: str, language: str) -> str:
    """What of a text is read aloud, in `SYMBOLS`: marks follow their word, and a space follows them.

    Raises:
        DataError: espeak-ng cannot run here, or does not know the language.
    """
    marks = _marks_of(language.partition("-")[0])
    return join_marked((_phonemes(piece, language), mark) for piece, mark in split_at_marks(text, marks))


@cache
def _marks_of(language: str) -> re.Pattern[str]:
    return marks_outside(f"{_ORDINAL}|{_WORDS}" if language in _WITH_ORDINAL_STOPS else _WORDS)


def _phonemes(piece: str, language: str) -> str:
    if not any(character.isalnum() for character in piece):
        return ""
    said = _SWITCH.sub("", phonemiser(language).phonemes(piece))
    return " ".join("".join(sign for sign in unicodedata.normalize("NFD", said) if sign in _KNOWN).split())
