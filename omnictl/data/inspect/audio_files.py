"""The recordings of a source with what is known of each one's audio: from the header alone, or from all of its samples."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.config.split import SPLITS, Split
from omnictl.data.audio.decoder import probe_audio, read_audio
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.manifest.thread_pool import measure_in_parallel
from omnictl.data.speech.corpus import BLOCK, Recording, SpeechCorpus, SpeechDataConfig
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.splits import split_rows
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig

_RATE = MelConfig().sample_rate
"""At which TinyWorld is spoken, in Hz."""


class AudioFile(NamedTuple):
    """What is known of a recording's audio."""

    frames: int
    """Samples a channel."""
    rate: int
    """In Hz."""
    channels: int
    digest: bytes
    """Of the samples; empty if they were not read."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.frames / self.rate


class AudioFacts(NamedTuple):
    """A recording whose audio is there, and its transcript in the alphabet."""

    split: Split
    recording: Recording
    audio: AudioFile
    text: str
    """Empty if it has other characters, or no words."""


class SpeechSource(NamedTuple):
    """The recordings of a source, and the audio files of each as they are looked at."""

    recordings: Sequence[tuple[Split, Recording]]
    audio_files: Iterator[AudioFile | DataError]
    broken: Sequence[BrokenRow]


def open_source(source: str, limit: int | None, measure: Callable[[Path], AudioFile]) -> SpeechSource:
    """The recordings of a source; their audio files follow as they are asked for.

    Args:
        source: a manifest, a corpus folder, or TinyWorld, which has no files and is spoken.
        limit: at most this many recordings of each split.
        measure: of a file, `probe` or `decode`.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    seed = tinyworld_seed(source)
    if seed is not None:
        return _open_tinyworld(seed, limit)
    manifest = find_speech(source_path(source))
    splits = split_rows(manifest.rows)
    rows = [(split, row) for split in SPLITS for row in splits[split][:limit]]
    recordings = [(split, Recording(row.id, row.text, row.speaker, row.where, row.audio)) for split, row in rows]
    return SpeechSource(recordings, measure_in_parallel([row.audio for _, row in rows], measure), manifest.broken)


def _open_tinyworld(seed: int, limit: int | None) -> SpeechSource:
    usual = SpeechDataConfig()
    num, num_eval = (min(count, limit or count) for count in (usual.num_utterances, usual.num_eval_utterances))
    world = TinyWorldSpeech(seed, num, num_eval)
    recordings = [(split, recording) for split in SPLITS for recording in world.recordings(split)]
    return SpeechSource(recordings, _speak_all(world), world.broken)


def _speak_all(world: TinyWorldSpeech) -> Iterator[AudioFile | DataError]:
    return (audio for split in SPLITS for audio in speak_split(world, split))


def speak_split(world: SpeechCorpus, split: Split) -> Iterator[AudioFile]:
    """The recordings of a split of TinyWorld, which is spoken for it.

    Raises:
        DataError: espeak-ng cannot run here.
    """
    for block in range(-(-len(world.recordings(split)) // BLOCK)):
        for audio in world.samples(split, block, _RATE):
            if isinstance(audio, DataError):
                raise audio
            yield AudioFile(len(audio), _RATE, 1, _digest(audio))


def probe(file: Path) -> AudioFile:
    """What the header says.

    Raises:
        DataError: not there, not audio, not whole, or out of bounds.
    """
    info = probe_audio(file)
    return AudioFile(info.frames, info.rate, info.channels, b"")


def decode(file: Path) -> AudioFile:
    """What is there, every sample read.

    Raises:
        DataError: not there, not audio, not whole, out of bounds, or samples far out of range or not finite.
    """
    info = probe_audio(file)
    samples = read_audio(file, rate=info.rate)
    return AudioFile(len(samples), info.rate, info.channels, _digest(samples))


def _digest(samples: NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
