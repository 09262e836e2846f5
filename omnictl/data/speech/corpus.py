"""Speech corpora: TinyWorld's voices or one's own recordings, as utterances in three splits.

An utterance's sound is asked for by number, in runs of `BLOCK`: TinyWorld can only speak whole blocks (its synthesiser keeps state
from one utterance to the next), and files are decoded as they come.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omnictl.config.base import Config
from omnictl.config.split import Split
from omnictl.data.audio.files import read_audio
from omnictl.data.audio.resample import resample
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.manifest import SpeechManifest
from omnictl.data.speech.splits import split_rows
from omnictl.data.text.corpus import TINYWORLD_SEED, tinyworld_seed
from omnictl.errors import DataError
from omnictl.tinyworld.speech.acoustics import record
from omnictl.tinyworld.speech.espeak import Request, speak
from omnictl.tinyworld.speech.utterances import Utterance, reply, utterance

BLOCK = 256
"""Utterances that are spoken or decoded in one go."""

Samples = NDArray[np.float32]

Voices = Literal["many", "one"]


class SpeechDataConfig(Config):
    """Which recordings, how they are split, and how they are varied in training."""

    source: str = "tinyworld"
    """A manifest, a corpus folder, `tinyworld`, or `tinyworld:SEED` for another draw."""
    voices: Voices = Field("many", description="of TinyWorld: many in many rooms, or the one clear voice of its replies")
    num_utterances: int = Field(8_000, ge=1, description="training utterances spoken by TinyWorld's voices")
    num_eval_utterances: int = Field(400, ge=2, description="validation utterances, and as many test ones, of TinyWorld")
    val_fraction: float | None = Field(None, ge=0, lt=1)
    """Of files: the share validated on. Without it 0.05, unless rows name their split."""
    test_fraction: float | None = Field(None, ge=0, lt=1)
    """Of files: the share kept for the test. Without it 0.05, or none if rows name their split."""
    holdout_speakers: tuple[str, ...] = Field((), description="speakers whose every utterance is the test split")
    max_seconds: float = Field(30.0, gt=0, description="longer recordings are set aside")
    max_broken: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside before training refuses")
    speeds: tuple[float, ...] = Field((1.0,), min_length=1, description="speed perturbation: one of these each time it is heard")
    time_mask: float = Field(0.1, ge=0, lt=1, description="SpecAugment: longest masked stretch, as a share of the utterance")
    frequency_mask: int = Field(20, ge=0, description="SpecAugment: widest masked band, in mel bins")


class Recording(NamedTuple):
    """One utterance of a corpus, its sound left where it is."""

    id: str
    text: str
    speaker: str | None
    where: str
    audio: Path | None
    """Its file, if it has one."""


class SpeechCorpus(Protocol):
    """Utterances in splits."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the content and how it is split."""
        ...

    @property
    def broken(self) -> Sequence[BrokenRow]:
        """Rows whose sound or text is missing, whatever their split."""
        ...

    def recordings(self, split: Split) -> Sequence[Recording]:
        """The utterances of a split in a fixed order.

        Raises:
            DataError: the split is empty.
        """
        ...

    def sounds(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """The sounds of a split's utterances from `block · BLOCK` on, up to `BLOCK` of them: `(n,)` mono at `rate` Hz.

        A sound that cannot be read is the error that says why.
        """
        ...


def open_speech(config: SpeechDataConfig) -> SpeechCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldSpeech(seed, config.num_utterances, config.num_eval_utterances, config.voices)
    return SpeechFiles(find_speech(Path(config.source).expanduser()), config)


@dataclass(frozen=True)
class TinyWorldSpeech:
    """Sentences of TinyWorld, spoken by espeak-ng."""

    seed: int
    num_utterances: int
    num_eval_utterances: int
    voices: Voices = "many"
    broken: Sequence[BrokenRow] = ()

    @property
    def name(self) -> str:
        """The source that speaks it again."""
        return "tinyworld" if self.seed == TINYWORLD_SEED else f"tinyworld:{self.seed}"

    @cached_property
    def fingerprint(self) -> str:
        """Over its arguments and the first utterances of each split, which change when the world does."""
        digest = hashlib.sha256(repr(self).encode())
        counts: dict[Split, int] = {"train": 100, "val": 10, "test": 10}  # a held-out one takes twenty times as long
        for split, count in counts.items():
            for index in range(count):
                digest.update(repr(self._plan(split, index)).encode())
        return digest.hexdigest()

    def recordings(self, split: Split) -> Sequence[Recording]:
        """See `SpeechCorpus`."""
        return _recordings(self.seed, split, self._count(split), self.voices)

    def sounds(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """See `SpeechCorpus`."""
        numbers = range(block * BLOCK, min((block + 1) * BLOCK, self._count(split)))
        plans = [self._plan(split, number) for number in numbers]
        spoken = speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans])
        for plan, samples in zip(plans, spoken.samples, strict=True):
            yield record_speech(plan, samples, spoken.rate, rate)

    def _plan(self, split: Split, number: int) -> Utterance:
        return _plan(self.seed, split, number, self.voices)

    def _count(self, split: Split) -> int:
        return self.num_utterances if split == "train" else self.num_eval_utterances


def _plan(seed: int, split: Split, number: int, voices: Voices) -> Utterance:
    return utterance(seed, split, number) if voices == "many" else reply(seed, split, number)


@lru_cache(maxsize=4)
def _recordings(seed: int, split: Split, count: int, voices: Voices) -> tuple[Recording, ...]:
    plans = (_plan(seed, split, number, voices) for number in range(count))
    return tuple(
        Recording(f"{split}/{number}", plan.text, plan.voice, f"tinyworld:{seed}/{split}/{number}", None)
        for number, plan in enumerate(plans)
    )


def record_speech(plan: Utterance, samples: NDArray[np.int16], spoken_rate: int, rate: int) -> Samples:
    """What espeak said, `(n,)` at its own rate, as it is recorded at another."""
    clean = samples.astype(np.float32) / np.float32(2**15)
    return record(resample(clean, spoken_rate, rate), plan, rate)


class SpeechFiles:
    """Recordings in files, with their transcripts."""

    def __init__(self, manifest: SpeechManifest, config: SpeechDataConfig) -> None:
        self.folder, self.broken = manifest.folder, manifest.broken
        self._max_seconds = config.max_seconds
        self._splits = split_rows(
            manifest.rows,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            holdout_speakers=config.holdout_speakers,
        )

    @property
    def name(self) -> str:
        """Its folder."""
        return str(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Over what the rows say and the size and time of every file; files are not read for it."""
        digest = hashlib.sha256(repr(self._max_seconds).encode())
        for split, rows in self._splits.items():
            for row in rows:
                found = row.audio.stat()
                digest.update(repr((split, row.id, row.text, row.speaker, found.st_size, found.st_mtime_ns)).encode())
        return digest.hexdigest()

    def recordings(self, split: Split) -> Sequence[Recording]:
        """See `SpeechCorpus`."""
        rows = self._splits[split]
        if not rows:
            sizes = ", ".join(f"{name} {len(found)}" for name, found in self._splits.items())
            raise DataError(
                f"the {split} split of {self.folder} is empty ({sizes} utterances)",
                where=str(self.folder),
                fix="give more recordings" if split == "train" else f"give more recordings, or --set data.{split}_fraction=0.1",
            )
        return [Recording(row.id, row.text, row.speaker, row.where, row.audio) for row in rows]

    def sounds(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """See `SpeechCorpus`."""
        for row in self._splits[split][block * BLOCK : (block + 1) * BLOCK]:
            try:
                yield read_audio(row.audio, rate=rate, max_seconds=self._max_seconds)
            except DataError as error:
                yield error
