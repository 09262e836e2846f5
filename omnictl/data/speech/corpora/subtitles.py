"""Long recordings with subtitles beside them (`talk.mp3` and `talk.srt` or `talk.vtt`): each subtitle is an utterance.

They are cut at their own times, which are for readers: a word may be cut at an edge (`use.subtitle_alignment` finds better ones).
Markup and what is not said (`♪`, what stands in round brackets) are dropped, `[music]` is left to `annotations`, and a voice
(`<v Anna>`) is the speaker.
"""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from omnictl.data.manifest.rows import BrokenRow, Record
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.manifest.tables import read_text
from omnictl.errors import DataError

SUBTITLE_SUFFIXES = (".srt", ".vtt")

_TIMES = re.compile(r"^\s*(\d+(?::\d+)*[.,]\d+)\s*-->\s*(\d+(?::\d+)*[.,]\d+)")
_VOICE = re.compile(r"<v(?:\.[\w.]+)?\s+([^<>\s][^<>]*)>")
_MARKUP = re.compile(r"</?[^<>]*>|\{\\[^{}]*\}")
_NOT_SAID = re.compile(r"[♪♫]|\([^)]{0,60}\)")
_DASH = re.compile(r"(^|\n)\s*[-–—]\s*")


class Subtitle(NamedTuple):
    """A piece of text and when it is said."""

    line: int
    start: float
    """In seconds."""
    end: float
    text: str
    speaker: str | None


def find_subtitled(folder: Path, suffixes: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Recordings and their subtitles in a folder, or in those below it, in the order of their names.

    Args:
        folder: where to look.
        suffixes: of recordings.
    """
    subtitles = sorted(file for depth in ("*", "*/*") for file in folder.glob(depth) if file.suffix.lower() in SUBTITLE_SUFFIXES)
    pairs = []
    for file in subtitles:
        stem = file.stem if _recording(file, file.stem, suffixes) else file.stem.rpartition(".")[0]  # talk.en.vtt
        recording = _recording(file, stem, suffixes) if stem and not file.name.startswith(".") else None
        if recording is not None:
            pairs.append((recording, file))
    return pairs


def _recording(subtitles: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    return next((file for suffix in suffixes if (file := subtitles.with_name(f"{stem}{suffix}")).is_file()), None)


def check_subtitles(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Refuse recordings with several files of subtitles: each utterance would be there twice, or in another language.

    Raises:
        DataError: there is one.
    """
    first: dict[Path, Path] = {}
    for recording, subtitles in pairs:
        if first.setdefault(recording, subtitles) != subtitles:
            raise DataError(
                f"{recording.name} has two files of subtitles, {first[recording].name} and {subtitles.name}",
                where=str(subtitles),
                fix="keep the one that says what is said, in its language, and move the other into another folder",
            )


def read_subtitled(recording: Path, subtitles: Path, folder: Path) -> Iterator[Record | BrokenRow]:
    """The utterances of a recording."""
    path, split = recording.relative_to(folder).as_posix(), split_of_path(recording, folder)
    for subtitle in read_subtitles(subtitles):
        where = f"{subtitles}:{subtitle.line}"
        if subtitle.end <= subtitle.start:
            yield BrokenRow(path, where, f"the subtitle ends at {subtitle.end:g} s, before it begins at {subtitle.start:g} s")
            continue
        times = {"offset": subtitle.start, "duration": subtitle.end - subtitle.start}
        yield Record(where, {"audio": path, "text": subtitle.text, "speaker": subtitle.speaker, "split": split, **times})


def read_subtitles(file: Path) -> Iterator[Subtitle]:
    """The subtitles of an SRT or WebVTT file, with those that say nothing left out.

    Raises:
        DataError: cannot be read, empty, or not UTF-8.
    """
    lines = read_text(file, "write subtitles into it").splitlines()
    number = 0
    while number < len(lines):
        match = _TIMES.match(lines[number])
        number += 1
        if match is None:
            continue
        first = number
        while number < len(lines) and lines[number].strip() and not _TIMES.match(lines[number]):
            number += 1
        raw = "\n".join(lines[first:number])
        voice = _VOICE.search(raw)
        text = _said(raw)
        if text:
            yield Subtitle(first, _seconds(match[1]), _seconds(match[2]), text, voice[1].strip() if voice else None)


def _said(raw: str) -> str:
    plain = _NOT_SAID.sub(" ", _unescape(_MARKUP.sub("", raw)))
    return " ".join(_DASH.sub(r"\1", plain).split())


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number of thousands of digits, which is no character
        return text


def _seconds(time: str) -> float:
    seconds = 0.0
    for part in time.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
