"""Saying texts with a trained Talker."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from omnictl.data.audio.files import wav_bytes
from omnictl.data.speech.transcripts.spoken_text import spell_out
from omnictl.data.speech.transcripts.transcript import foreign_characters
from omnictl.errors import DataError, UsageError
from omnictl.generate.tts import Samples, Voice, say, time_speech
from omnictl.runs.files import write_bytes
from omnictl.stages.protocol import open_model
from omnictl.stages.talker import TalkerStage


@dataclass(frozen=True)
class SpeechSettings:
    """How something is said."""

    speaker: str | None = None
    """Whose voice; None: the first."""
    speed: float = 1.0
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
    stage = open_model(TalkerStage, folder, device=device, cache=cache)
    spell_out("1")  # what reads numbers takes a second to load, which the first samples need not wait for
    return stage.voice()


def stream(pieces: Iterable[str], voice: Voice, settings: SpeechSettings) -> Iterator[Samples]:
    """Samples `(n,)` at the vocoder's rate of a text as it arrives, each as soon as it can be made.

    Raises:
        UsageError: there is no such speaker.
        DataError: nothing of the text can be said, or some letters of it cannot.
    """
    if settings.temperature is not None:
        voice = replace(voice, sampling=voice.sampling.model_copy(update={"temperature": settings.temperature}))
    generator = torch.Generator().manual_seed(settings.seed)
    speaker = _find_speaker(voice, settings.speaker)
    return say(voice, map(_check_letters, pieces), generator, speaker=speaker, speed=settings.speed)


def _find_speaker(voice: Voice, name: str | None) -> int:
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


def _check_letters(piece: str) -> str:
    """The same text.

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
    return piece


def check_place(path: Path, option: str) -> None:
    """Refuse a file that no speech can be written to, before anything is said.

    Raises:
        UsageError: its folder is not there, it is a folder, or its ending is not that of a WAV file.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}", where=option, fix=f"make it (mkdir -p {path.parent}), or name another"
        )
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
