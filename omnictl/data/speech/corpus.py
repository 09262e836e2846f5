"""What a speech corpus is, utterances in three splits, and the settings that choose one.

An utterance's audio is asked for by number, in runs of `BLOCK`: TinyWorld can only speak whole blocks (its synthesiser keeps state
from one utterance to the next), and files are decoded as they come.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omnictl.config.base import Config
from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError

BLOCK = 256
"""Utterances that are spoken or decoded in one go."""

Samples = NDArray[np.float32]

Voices = Literal["many", "one", "six"]


class SpeechDataConfig(Config):
    """Which recordings, how they are split, and how they are varied in training."""

    source: str = Field(
        "tinyworld", description="a manifest or a folder with recordings; tinyworld, or tinyworld:SEED for another draw"
    )
    voices: Voices = Field(
        "many", description="of TinyWorld: many in many rooms; or the one clear voice of its replies, or six by name"
    )
    symbols: Literal["letters", "phonemes"] = Field(
        "letters", description="what a Talker reads: English letters, or the phonemes of any language by espeak-ng"
    )
    language: str = Field("en-us", description="for phonemes: a voice of espeak-ng, such as de, es, fr, ru")
    num_utterances: int = Field(8_000, ge=1, le=10_000_000, description="training utterances spoken by TinyWorld's voices")
    num_eval_utterances: int = Field(
        400, ge=2, le=1_000_000, description="validation utterances, and as many test ones, of TinyWorld"
    )
    val_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share validated on; null: 0.05, unless rows name their split"
    )
    test_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share kept for the test; null: 0.05, or none if rows name their split"
    )
    holdout_speakers: tuple[str, ...] = Field((), description="speakers whose every utterance is the test split")
    max_seconds: float = Field(30.0, gt=0, description="longer recordings are set aside")
    max_broken: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside before training refuses")
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = Field(
        (1.0,), min_length=1, description="speed perturbation: one of these each time it is heard"
    )
    time_mask: float = Field(0.1, ge=0, lt=1, description="SpecAugment: longest masked stretch, as a share of the utterance")
    frequency_mask: int = Field(20, ge=0, le=10_000, description="SpecAugment: widest masked band, in mel bins")

    def with_source(self, source: str) -> "SpeechDataConfig":
        """Other data, treated alike; who is held out is said of these recordings alone."""
        return self.model_copy(update={"source": source, "holdout_speakers": ()})


class Recording(NamedTuple):
    """One utterance of a corpus, its audio left where it is."""

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
        """Rows whose audio or text is missing, whatever their split."""
        ...

    def recordings(self, split: Split) -> Sequence[Recording]:
        """The utterances of a split in a fixed order.

        Raises:
            DataError: the split is empty.
        """
        ...

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """The samples of a split's utterances from `block · BLOCK` on, up to `BLOCK` of them: `(n,)` mono at `rate` Hz.

        A recording that cannot be read comes as the error that says why.
        """
        ...
