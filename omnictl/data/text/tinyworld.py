"""TinyWorld's documents, drawn from its grammar, and its lessons."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from omnictl.config.split import SPLITS, Split
from omnictl.data.manifest.source import tinyworld_name
from omnictl.tinyworld import document
from omnictl.tinyworld.text.lessons import LessonKind, lesson


@dataclass(frozen=True)
class TinyWorldText:
    """Documents drawn from TinyWorld's grammar."""

    seed: int
    num_documents: int
    num_eval_documents: int
    markup: bool = True

    @property
    def name(self) -> str:
        """The value of `data.source` that draws it again."""
        return tinyworld_name(self.seed)

    @cached_property
    def fingerprint(self) -> str:
        """Over its arguments and the first documents, which change when the grammar does."""
        return hashlib.sha256(repr(self).encode() + _first_documents(self.seed)).hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split in a fixed order."""
        count = self.num_documents if split == "train" else self.num_eval_documents
        return (document(self.seed, split, index) for index in range(count))


@lru_cache(maxsize=4)
def _first_documents(seed: int) -> bytes:
    """A hundred of each split, one after the other; a stage and the parts that it stands on open the same world."""
    return "".join(document(seed, split, index) for split in SPLITS for index in range(100)).encode()


@dataclass(frozen=True)
class TinyWorldLessons:
    """Lessons of one kind as a corpus of which only the training split is read."""

    seed: int
    kind: LessonKind
    count: int
    markup: bool = True

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"tinyworld's {self.kind}"

    @cached_property
    def fingerprint(self) -> str:
        """Over its arguments and the first lessons, which change when the grammar does."""
        digest = hashlib.sha256(repr(self).encode())
        for index in range(100):
            digest.update(lesson(self.kind, self.seed, index).encode())
        return digest.hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """All of them."""
        assert split == "train", "lessons are for training"
        return (lesson(self.kind, self.seed, index) for index in range(self.count))
