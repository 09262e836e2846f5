"""What a text corpus is, documents in three splits, and the settings that choose one."""

from collections.abc import Iterator
from typing import Literal, Protocol, Self

from pydantic import Field, model_validator

from omnictl.config.base import Config
from omnictl.config.split import Split
from omnictl.tinyworld.text.lessons import LessonKind


class LessonPhase(Config):
    """Steps of which every window holds lessons of one kind."""

    kind: LessonKind = Field(description="what the lessons are about")
    steps: int = Field(ge=1, le=1_000_000_000, description="how long they last")
    windows: int = Field(
        2, ge=1, le=1_000_000, description="windows of a batch: few, as this takes many steps rather than many tokens"
    )


class CurriculumConfig(Config):
    """Short lessons before the documents; see `omnictl.data.text.curriculum`."""

    phases: tuple[LessonPhase, ...] = Field((), description="one after the other")
    lesson_every: int = Field(
        0, ge=0, le=1_000_000_000, description="of the windows after the phases, one in so many is a lesson; 0: none"
    )
    num_lessons: int = Field(10_000, ge=1, le=100_000_000, description="of each kind")

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def windows(self) -> int:
        """Of all phases."""
        return sum(phase.steps * phase.windows for phase in self.phases)


class TextDataConfig(Config):
    """Which text, how it is split, and how it becomes tokens."""

    source: str = Field(
        "tinyworld", description="a .txt, .jsonl or .parquet file, a folder of them; tinyworld, or tinyworld:SEED for another draw"
    )
    num_documents: int = Field(40_000, ge=1, le=100_000_000, description="training documents drawn from TinyWorld")
    num_eval_documents: int = Field(
        1_000, ge=1, le=10_000_000, description="validation documents, and as many test documents, drawn from TinyWorld"
    )
    val_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share validated on; null: 0.05, unless rows name their split"
    )
    test_fraction: float | None = Field(
        None, ge=0, lt=1, description="of files: share kept for the test; null: 0.05, or none if rows name their split"
    )
    tokenizer: Literal["bpe", "char"] = Field(
        "bpe", description="bpe: pieces of bytes, learned from the training split; char: single characters"
    )
    vocab_size: int = Field(
        1024, ge=1, le=1_000_000, description="tokens of the BPE, special ones included; characters are as many as there are"
    )
    seq_len: int = Field(512, ge=1, le=1_000_000, description="positions in a training window")
    curriculum: CurriculumConfig = CurriculumConfig()
    """What TinyWorld teaches before its documents; other text has no lessons."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if (self.val_fraction or 0) + (self.test_fraction or 0) >= 1:
            raise ValueError("val_fraction and test_fraction leave nothing to train on: their sum must be below 1")
        return self

    def with_source(self, source: str) -> "TextDataConfig":
        """Other data, treated alike."""
        return self.model_copy(update={"source": source})


class Corpus(Protocol):
    """Documents in splits."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the content and how it is split."""
        ...

    @property
    def markup(self) -> bool:
        """Whether special tokens written in its documents are meant as such; never for files of the user's."""
        ...

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split in a fixed order.

        Raises:
            DataError: the split is empty, or a file cannot be read.
        """
        ...
