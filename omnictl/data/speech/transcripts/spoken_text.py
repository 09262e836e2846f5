"""Text as it is read aloud: the alphabet of transcripts, and the marks that are heard as pauses and tone.

Words are those of `transcript.normalise`; `, . ? !` stay, other marks become the one that sounds like them or nothing. Left out on
purpose, because it takes a reader who understands: whether a full stop ends an abbreviation or a sentence ("etc. He"); and quotes
and brackets, which are hardly heard.
"""

import re
from collections.abc import Iterable, Iterator

from omnictl.data.speech.transcripts.transcript import ALPHABET, normalise

MARKS = ",.?!"

SYMBOLS = ALPHABET + MARKS
"""Symbol `SYMBOLS[i]` is id `i + 1`."""

NUM_SYMBOLS = len(SYMBOLS)

_IDS = {symbol: index for index, symbol in enumerate(SYMBOLS, start=1)}

_ALIKE = str.maketrans({**dict(zip("，、；：。．？！⁇⁈⁉‼", ",,;:..?!???!", strict=True)), "…": "...", "‥": ".."})
"""Marks of other scripts and double ones, as those that they sound like."""

_STRENGTH = ",.!?"
"""The strongest of several marks last."""

_COMMA = (
    r",(?!(?<=\d,)\d{3}(?!\d))"  # but not that of 1,000
    r"|;|(?<!\d):|:(?!\d)"  # but not that of 10:30
    r"|(?<!\d)[—―]|[—―–](?!\d)|--+|(?<=\s)-(?=\s)"  # but not those of 1914–1918, of –5 and of well-known
)
_STOP = (
    r"\.{2,}|[\n\r\v\f\x85\u2028\u2029]"
    r"|\.(?!['’]?[^\W_])"  # but not those of 3.14 and e.g.
)
_MARK = rf"(?P<comma>{_COMMA})|(?P<stop>{_STOP})|(?P<tone>[?!])"
_ANY_MARK = re.compile(_MARK)


def spell_out(text: str) -> str:
    """What of a text is read aloud, in `SYMBOLS`: marks follow their word, and a space follows them."""
    return join_marked((normalise(piece), mark) for piece, mark in split_at_marks(text))


def marks_outside(words: str) -> re.Pattern[str]:
    """What finds marks, but for those within words that a regular expression tells, like the comma of 3,50."""
    return re.compile(rf"(?P<word>{words})|{_MARK}")


def split_at_marks(text: str, marks: re.Pattern[str] = _ANY_MARK) -> Iterator[tuple[str, str]]:
    """The pieces of a text, each with the mark of `MARKS` behind it; the last one has none.

    Args:
        text: any.
        marks: other ones than those of English, as `marks_outside` gives them.
    """
    begin = 0
    text = text.translate(_ALIKE)
    for match in marks.finditer(text):
        if match.lastgroup != "word":
            yield text[begin : match.start()], _mark_of(match)
            begin = match.end()
    yield text[begin:], ""


def join_marked(pieces: Iterable[tuple[str, str]]) -> str:
    """Words a space apart, each mark at the word before it, whatever stands between them."""
    said: list[str] = []
    for piece, mark in pieces:
        said += piece.split()
        if said and mark:
            said[-1] = _with_mark(said[-1], mark)
    return " ".join(said)


def _mark_of(match: re.Match[str]) -> str:
    """The mark that the matched one sounds like."""
    if match["tone"]:
        return match["tone"]
    return "," if match["comma"] else "."


def _with_mark(word: str, mark: str) -> str:
    """A word with a mark, the stronger one where it has one already."""
    if word[-1] in MARKS:
        return word[:-1] + max(word[-1], mark, key=_STRENGTH.index)
    return word + mark


def spoken_ids(said: str) -> list[int]:
    """Ids, 1 to `NUM_SYMBOLS`, of what `spell_out` gives."""
    return [_IDS[symbol] for symbol in said]


def speech_text(said: str) -> str:
    """The words alone of what `spell_out` gives, as a recogniser is asked for them."""
    return "".join(symbol for symbol in said if symbol not in MARKS)


def sentences(said: str, longest: int) -> Iterator[str]:
    """What `spell_out` gives, sentence by sentence, each of 1 to `longest` symbols.

    A longer one is cut behind its last comma that is near enough, else at a space, else within a word.
    """
    assert longest > 1, "a letter and its mark"
    for sentence in re.split(r"(?<=[.?!]) ", said):
        rest = sentence
        while len(rest) > longest:
            cut = _cut(rest, longest)
            yield rest[:cut]
            rest = rest[cut:].lstrip()
        if rest:
            yield rest


def _cut(sentence: str, longest: int) -> int:
    """Where a sentence that is longer than `longest` is cut."""
    comma = sentence.rfind(", ", 0, longest + 1)
    if comma > 0:
        return comma + 1
    space = sentence.rfind(" ", 0, longest + 1)
    if space > 0:
        return space
    return longest - (sentence[longest] in MARKS)  # no mark is said alone
