"""Speech manifests: rows of a recording and what is said in it, judged by the rules of `manifest`."""

import math
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.data.manifest.rows import Flaw, Manifest, Record, Schema, optional_text, read_split, require_text

FIELDS = ("audio", "text", "speaker", "split", "offset", "duration")


class SpeechRow(NamedTuple):
    """A recording and its transcript."""

    id: str
    """The audio's path below the corpus folder; a file that comes again is `#2`, `#3`."""
    audio: Path
    """Absolute, below the corpus folder."""
    text: str
    speaker: str | None
    split: Split | None
    where: str
    offset: float | None = None
    """Where in the recording it is spoken, in seconds; None if it is all of it."""
    duration: float | None = None
    """For how long, in seconds; None if to the end, or if that is not said."""

    @property
    def file(self) -> Path:
        """The audio, under the name that rows of all kinds have in common."""
        return self.audio


SpeechManifest = Manifest[SpeechRow]


def _row(name: str, audio: Path, record: Record) -> SpeechRow:
    _, text, speaker, split, offset, duration = map(record.fields.get, FIELDS)
    return SpeechRow(
        id=name,
        audio=audio,
        text=require_text("text", text),
        speaker=_speaker(speaker),
        split=read_split(split),
        where=record.where,
        offset=_seconds("offset", offset),
        duration=_seconds("duration", duration),
    )


def _seconds(name: str, value: object) -> float | None:
    """A number, also as a table has it."""
    if value is None or value == "":
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):  # a whole number of hundreds of digits
        seconds = math.nan
    if not math.isfinite(seconds):
        raise Flaw(f"the {name} should be a number of seconds, found {value!r}")
    return seconds


def _speaker(value: object) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return optional_text("speaker", str(value) if is_number else value)


SPEECH = Schema(
    file="audio",
    known=FIELDS,
    needed=(("audio",), ("text",)),
    row=_row,
    needs="a text and the path of an audio file",
    first_line="write one line per recording: its audio file and its text",
)


def read_manifest(path: Path) -> SpeechManifest:
    """The rows of a `.csv` or `.jsonl` manifest; audio paths are relative to its folder.

    Raises:
        DataError: no such file, not of these formats, not valid UTF-8, a header without `audio` and `text`, or no usable row.
    """
    return SPEECH.read(path)
