"""Subtitles from words with times: SubRip (.srt) and WebVTT (.vtt).

A cue has at most two lines of 42 characters and stays for at most seven seconds (the usual rules of broadcasters; Netflix,
"Timed Text Style Guide", 2023); a pause begins a new one. A word longer than a line has a line of its own, and one that lasts
longer than a cue may is shown for seven seconds.

Formats: https://www.w3.org/TR/webvtt1/; SubRip has no standard, and its text is written as it is.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LINE_CHARACTERS = 42
CUE_LINES = 2
CUE_SECONDS = 7.0
PAUSE_SECONDS = 0.6
"""Silence between two words that begins a new cue."""


class Word(NamedTuple):
    """A word and when it was said, in seconds from the beginning of the recording."""

    text: str
    start: float
    stop: float


class Cue(NamedTuple):
    """What is shown at once, from `start` to `stop` in seconds."""

    lines: list[str]
    start: float
    stop: float


def cues(words: Sequence[Word]) -> Iterator[Cue]:
    """Words in the order of their times, put together greedily."""
    current: list[Word] = []
    for word in words:
        if current and not _goes_on(current, word):
            yield _cue(current)
            current = []
        current.append(word)
    if current:
        yield _cue(current)


def to_srt(words: Sequence[Word]) -> str:
    """A SubRip file; empty without words."""
    blocks = []
    for number, cue in enumerate(cues(words), start=1):
        lines = [str(number), f"{_timestamp(cue.start, ',')} --> {_timestamp(cue.stop, ',')}", *cue.lines]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def to_vtt(words: Sequence[Word]) -> str:
    """A WebVTT file; only its head without words."""
    blocks = ["WEBVTT\n"]
    for cue in cues(words):
        lines = [f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.stop, '.')}", *map(_escape, cue.lines)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _goes_on(current: list[Word], word: Word) -> bool:
    """Whether a word still belongs to the cue of those before it."""
    return (
        word.start - current[-1].stop < PAUSE_SECONDS
        and word.stop - current[0].start <= CUE_SECONDS
        and len(_lines([*current, word])) <= CUE_LINES
    )


def _cue(words: list[Word]) -> Cue:
    start, stop = words[0].start, words[-1].stop
    return Cue(_lines(words), start, min(stop, start + CUE_SECONDS))


def _lines(words: list[Word]) -> list[str]:
    text = " ".join(word.text for word in words)
    return textwrap.wrap(text, LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)


def _timestamp(seconds: float, point: str) -> str:
    """HH:MM:SS and milliseconds; rounded before it is cut up, so that 59.9996 is a minute and no second has 1000 of them."""
    total = round(seconds * 1000)
    minutes, milliseconds = divmod(total, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
