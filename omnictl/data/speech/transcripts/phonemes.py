"""Text of any language as it is read aloud, in the phonemes of espeak-ng and the marks that are heard.

Numbers, dates and abbreviations are read as espeak-ng reads them in the language. Left out on purpose: tones written as digits, and
words that espeak-ng reads in another language than the rest are not marked.
"""

import re
import unicodedata

from omnictl.data.speech.transcripts.spoken_text import MARKS, join_marked, split_at_marks
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


def pronounce(text: str, language: str) -> str:
    """What of a text is read aloud, in `SYMBOLS`: marks follow their word, and a space follows them.

    Raises:
        DataError: espeak-ng cannot run here, or does not know the language.
    """
    return join_marked((_phonemes(piece, language), mark) for piece, mark in split_at_marks(text))


def _phonemes(piece: str, language: str) -> str:
    if not any(character.isalnum() for character in piece):
        return ""
    said = _SWITCH.sub("", phonemiser(language).phonemes(piece))
    return " ".join("".join(sign for sign in unicodedata.normalize("NFD", said) if sign in _KNOWN).split())
