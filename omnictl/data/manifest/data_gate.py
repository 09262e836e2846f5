"""What of a corpus can be used: its splits, opened when they are first asked for, and a record of what is set aside."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from omnictl.config.split import Split
from omnictl.data.manifest.contents import DataContents
from omnictl.data.manifest.quarantine import refuse_too_many
from omnictl.data.manifest.rows import BrokenRow


class SplitCorpus(Protocol):
    """A corpus of rows, some of which may be broken."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def broken(self) -> Sequence[BrokenRow]:
        """Rows that cannot be used, whatever their split."""
        ...


class ExampleSet(Protocol):
    """The usable examples of a split."""

    @property
    def set_aside(self) -> Sequence[BrokenRow]:
        """Rows of the split that cannot be used, each with the reason."""
        ...

    def __len__(self) -> int: ...


Corpus = TypeVar("Corpus", bound=SplitCorpus)
Examples = TypeVar("Examples", bound=ExampleSet)


class DataGate(Generic[Corpus, Examples]):
    """The data of a stage. Nothing is opened before it is needed: a model is used without its data.

    Args:
        open_corpus: opens the corpus.
        open_split: opens a split of it, to judge by.
        open_training: opens what is trained on, if that is not just the training split.
        fingerprint: SHA-256 over what a corpus holds, whatever place and time its files have.
        max_broken: share of the rows that may be unusable.
    """

    def __init__(
        self,
        open_corpus: Callable[[], Corpus],
        open_split: Callable[[Corpus, Split], Examples],
        *,
        open_training: Callable[[Corpus], Examples] | None = None,
        fingerprint: Callable[[Corpus], str],
        max_broken: float,
    ) -> None:
        self._open_corpus, self._open_split, self._open_training = open_corpus, open_split, open_training
        self._fingerprint = fingerprint
        self._max_broken = max_broken
        self._splits: dict[Split, Examples] = {}

    @cached_property
    def corpus(self) -> Corpus:
        """All rows.

        Raises:
            DataError: there is no such corpus.
        """
        return self._open_corpus()

    @cached_property
    def training_set(self) -> Examples:
        """What is trained on."""
        return self.split("train") if self._open_training is None else self._open_training(self.corpus)

    def split(self, split: Split) -> Examples:
        """The usable examples of a split.

        Raises:
            DataError: the split is empty, or nothing in it can be used.
        """
        if split not in self._splits:
            self._splits[split] = self._open_split(self.corpus, split)
        return self._splits[split]

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Rows that are neither trained nor validated on, each with the reason."""
        return (*self.corpus.broken, *self.training_set.set_aside, *self.split("val").set_aside)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what all rows say and the sizes of their files."""
        return self._fingerprint(self.corpus)

    @property
    def contents(self) -> DataContents:
        """What it holds."""
        sizes = {"train": len(self.training_set), "val": len(self.split("val"))}
        return DataContents(self.fingerprint, sizes, len(self.quarantine))

    def check(self) -> None:
        """Refuse data of which too much is broken.

        Raises:
            DataError: it is, or nothing is left to train on.
        """
        refuse_too_many(
            [*self.corpus.broken, *self.training_set.set_aside],
            usable=len(self.training_set),
            allowed=self._max_broken,
            source=self.corpus.name,
        )
