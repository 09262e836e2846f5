"""What a corpus of dialogues is, in three splits and by task, with images and recordings, and the settings that choose one.

Images and recordings of a split are numbered; encoders see and hear all of them once, in that order.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omnictl.config.base import Config
from omnictl.config.split import Split
from omnictl.data.dialogues.chat_template import Dialogue, Media
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.corpus import SpeechCorpus

Pixels = NDArray[np.uint8]

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Weight = Annotated[float, Field(ge=0)]


class DialogueDataConfig(Config):
    """Which dialogues, how they are mixed, and how they are split."""

    source: str = Field(
        "tinyworld", description="a .jsonl file or a folder with one; tinyworld, or tinyworld:SEED for another draw"
    )
    counts: dict[str, Count] = Field(
        {"spoken": 4_000, "spoken_image": 6_000, "transcribe": 6_000},
        description="of TinyWorld, the different training dialogues of a task; a million of those that are not named",
    )
    weights: dict[str, Weight] = Field(
        {}, description="how often each task is drawn, in proportion; none: as many dialogues as it has, TinyWorld's all alike"
    )
    world_weights: dict[str, Weight] = Field(
        {}, description="the same of TinyWorld's tasks; says nothing of other data, whatever their tasks are called"
    )
    num_pictures: int = Field(
        20_000, ge=1, le=100_000_000, description="of TinyWorld, different scenes that training dialogues talk about"
    )
    num_eval_dialogues: int = Field(
        400, ge=1, le=1_000_000, description="of TinyWorld, test dialogues of each task; a quarter for validation"
    )
    replay: float = Field(
        0.15, ge=0, lt=1, description="share of the examples that are documents of the Thinker's own text, which it would forget"
    )
    val_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share validated on; null: 0.05, unless rows name their split"
    )
    test_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share kept for the test; null: 0.05, or none if rows name their split"
    )
    max_seconds: float = Field(30.0, gt=0, description="longer recordings are set aside")
    max_broken: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside before training refuses")

    @property
    def weights_on_tinyworld(self) -> dict[str, float]:
        """How often each task of TinyWorld is drawn, `weights` before `world_weights`."""
        return {**self.world_weights, **self.weights}

    def with_source(self, source: str) -> "DialogueDataConfig":
        """Other data, treated alike."""
        return self.model_copy(update={"source": source})


class ImageCollection(Protocol):
    """The images of a split."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what they show."""
        ...

    def __len__(self) -> int: ...

    def image(self, number: int, size: int) -> Pixels:
        """`(3, size, size)` RGB.

        Raises:
            DataError: it cannot be read.
        """
        ...


class DialogueCorpus(Protocol):
    """Dialogues in splits, by task."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def generated(self) -> bool:
        """Whether its dialogues are made to be usable, and need no check."""
        ...

    @property
    def kinds(self) -> frozenset[MediaKind]:
        """What its dialogues have besides text."""
        ...

    @property
    def broken(self) -> Sequence[BrokenRow]:
        """Rows that cannot be used, whatever their split."""
        ...

    @property
    def audio(self) -> SpeechCorpus:
        """All recordings of the dialogues. Their texts may be unknown, and are not used."""
        ...

    def images(self, split: Split) -> ImageCollection:
        """All images of a split."""
        ...

    def tasks(self, split: Split) -> Mapping[str, int]:
        """How many dialogues of each task there are."""
        ...

    def dialogue(self, split: Split, task: str, number: int) -> Dialogue:
        """One of them."""
        ...

    def words(self, split: Split, media: Media) -> Sequence[tuple[str, ...]] | None:
        """What an image or a recording shows or says, feature by feature as an encoder might see it; None if nobody knows."""
        ...

    def files(self, split: Split, kind: MediaKind) -> Sequence[Path]:
        """The files of a kind of media of a split, by number; none of what is made when it is asked for."""
        ...

    def file(self, split: Split, media: Media) -> Path | None:
        """Where an image or a recording lies, if it is a file."""
        ...
