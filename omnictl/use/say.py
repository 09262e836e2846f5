"""Saying texts with a trained Talker."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch

from omnictl.data.audio.decoder import wav_bytes
from omnictl.data.audio.resample import ResampleStream
from omnictl.data.speech.transcripts.spoken_text import spell_out
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.data.speech.transcripts.transcript import foreign_characters
from omnictl.errors import DataError, UsageError
from omnictl.generate.tts import Samples, SpeechStream, Voice, time_speech
from omnictl.regular_files import is_special
from omnictl.runs.files import write_bytes
from omnictl.stages import talker


@dataclass(frozen=True)
class SpeechSettings:
    """How something is said."""

    speaker: str | None = None
    """Whose voice; None: the first."""
    speed: float = 1.0
    pitch: float = 0.0
    """In semitones above the voice's own."""
    temperature: float | None = None
    """None: the Talker's own."""
    seed: int = 0


class SpokenText(NamedTuple):
    """What became of a text."""

    seconds: float  # of speech
    first_audio_seconds: float  # until the first of it was there
    real_time_factor: float  # seconds that a second of speech took


def open_voice(folder: Path, device: torch.device, cache: Path) -> Voice:
    """The voice of a Talker's model folder.

    Raises:
        CheckpointError: it holds no whole model.
    """
    spell_out("1")  # what reads numbers takes a second to load, which the first samples need not wait for
    return talker.open_voice(folder, device=device, cache=cache)


LARGEST_PITCH = 12.0
"""Semitones up or down."""
SPEEDS = (0.25, 4.0)
"""The slowest and the fastest."""
_PITCH_RATIO = 100
"""Largest denominator of a change of pitch: within 0.01 semitones of what is asked for."""


class SpokenStream:
    """A text that is said while it arrives, in a chosen voice, at its speed and pitch.

    The pitch is changed by playing faster what was said slower, which moves the colour of the voice along with it.

    Args:
        voice: what says it.
        settings: how.

    Raises:
        UsageError: there is no such speaker, or speed or pitch are out of bounds.
    """

    def __init__(self, voice: Voice, settings: SpeechSettings) -> None:
        _check_bounds(settings)
        if settings.temperature is not None:
            voice = replace(voice, sampling=voice.sampling.model_copy(update={"temperature": settings.temperature}))
        self._voice = voice
        faster = Fraction(2 ** (settings.pitch / 12)).limit_denominator(_PITCH_RATIO)
        self._speech = SpeechStream(
            voice,
            torch.Generator().manual_seed(settings.seed),
            speaker=find_speaker(voice, settings.speaker),
            speed=settings.speed / float(faster),
        )
        self._faster = float(faster)
        self._played = None if faster == 1 else ResampleStream(faster.numerator, faster.denominator)
        self._ended = False

    def push(self, text: str) -> None:
        """Take more of the text.

        Raises:
            DataError: some letters of it cannot be said in this language.
        """
        if isinstance(self._voice.pronunciation, ReadAloud):  # espeak-ng reads any
            _check_letters(text)
        self._speech.push(text)

    @property
    def sentences(self) -> tuple[tuple[str, float], ...]:
        """The sentences that were begun, and the seconds of speech before each."""
        return tuple((sentence, seconds / self._faster) for sentence, seconds in self._speech.said)

    def finish(self) -> None:
        """No more of the text comes."""
        self._speech.finish()
        self._ended = True

    def step(self) -> Samples | None:
        """The next samples `(n,)` at the vocoder's rate; None: they need more of the text, or all of it was said."""
        samples = self._speech.step()
        if self._played is None:
            return samples
        if samples is not None:
            return self._played.push(samples)
        if not self._ended:
            return None
        played, self._played = self._played, None
        return played.finish()


def stream(pieces: Iterable[str], voice: Voice, settings: SpeechSettings) -> Iterator[Samples]:
    """Samples `(n,)` at the vocoder's rate of a text as it arrives, each as soon as it can be made.

    Raises:
        UsageError: there is no such speaker.
        DataError: some letters of the text cannot be said.
    """
    spoken = SpokenStream(voice, settings)
    for piece in pieces:
        spoken.push(piece)
        yield from _steps(spoken)
    spoken.finish()
    yield from _steps(spoken)


def _steps(spoken: SpokenStream) -> Iterator[Samples]:
    while (samples := spoken.step()) is not None:
        if len(samples):
            yield samples


def _check_bounds(settings: SpeechSettings) -> None:
    """Refuse what would take forever, or cannot be heard.

    Raises:
        UsageError: speed or pitch are out of bounds, or no numbers.
    """
    for name, value, (least, most) in (
        ("speed", settings.speed, SPEEDS),
        ("pitch", settings.pitch, (-LARGEST_PITCH, LARGEST_PITCH)),
    ):
        if not least <= value <= most:
            message = f"{name} should be between {least:g} and {most:g}, found {value:g}"
            raise UsageError(message, where=name, fix="give a number in between")


def find_speaker(voice: Voice, name: str | None) -> int:
    """The number of a speaker; without a name, the first.

    Raises:
        UsageError: the voice has none of that name.
    """
    if name is None:
        return 0
    if name not in voice.speakers:
        known = ", ".join(voice.speakers[:20]) or "one without a name"
        raise UsageError(f"this Talker has no speaker {name!r}, it knows: {known}", where="--speaker", fix="name one of these")
    return voice.speakers.index(name)


def _check_letters(piece: str) -> None:
    """Refuse letters that the Talker does not read.

    Raises:
        DataError: some letters of it have no sound in this language.
    """
    foreign = foreign_characters(piece)
    if foreign:
        raise DataError(
            f"the Talker reads the letters a to z, the text has: {foreign}",
            where="TEXT",
            fix="write them in Latin letters",
        )


def check_place(path: Path, option: str) -> None:
    """Refuse a file that no speech can be written to, before anything is said.

    Raises:
        UsageError: its folder is not there, it is a folder, a pipe or a device, or its ending is not that of a WAV file.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}", where=option, fix=f"make it (mkdir -p {path.parent}), or name another"
        )
    if is_special(path):
        raise UsageError(f"{path} is a pipe or a device, not a file", where=option, fix="name a file, such as reply.wav")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", where=option, fix=f"name a file, such as {path / 'reply.wav'}")
    if path.suffix.lower() not in ("", ".wav"):
        raise UsageError(f"what is said is written as WAV, not as {path.suffix}", where=option, fix=f"name {path.stem}.wav")


def say_to_file(pieces: Iterable[str], path: Path, voice: Voice, settings: SpeechSettings) -> SpokenText:
    """Say a text into a WAV file of 16 bits.

    Raises:
        UsageError, DataError: as `stream`.
        RunError, DiskFull: the file cannot be written.
    """
    check_place(path, "--out")
    said = time_speech(stream(pieces, voice, settings))
    if not len(said.audio):
        raise DataError(
            "nothing of the text can be said: it has no letters and no numbers", where="TEXT", fix="give a text with words"
        )
    rate = voice.vocoder.sample_rate
    write_bytes(path, wav_bytes(said.audio, rate))
    seconds = len(said.audio) / rate
    return SpokenText(seconds, said.first_seconds, said.seconds / seconds)
