"""Speech manifests: rows of a recording and what is said in it, judged by the rules of `manifest`."""

from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.data.manifest.rows import Manifest, Record, Schema, optional_text, read_split, require_text

FIELDS = ("audio", "text", "speaker", "split")


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

    @property
    def file(self) -> Path:
        """The audio, under the name that rows of all kinds have in common."""
        return self.audio


SpeechManifest = Manifest[SpeechRow]


def _row(name: str, audio: Path, record: Record) -> SpeechRow:
    _, text, speaker, split = map(record.fields.get, FIELDS)
    return SpeechRow(
        id=name,
        audio=audio,
        text=require_text("text", text),
        speaker=_speaker(speaker),
        split=read_split(split),
        where=record.where,
    )


def _speaker(value: object) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return optional_text("speaker", str(value) if is_number else value)


SPEECH = Schema(
    file="audio",
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
