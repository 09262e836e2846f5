"""What a stage's data shares, whatever it is made of."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from omnictl.config.split import Split
from omnictl.data.manifest.data_gate import DataGate
from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError


class Numbers(NamedTuple):
    """A corpus of numbers, some of which are broken."""

    broken: Sequence[BrokenRow]
    name: str = "numbers"


class Examples(NamedTuple):
    """Some of them."""

    kept: Sequence[int]
    set_aside: Sequence[BrokenRow] = ()

    def __len__(self) -> int:
        return len(self.kept)


def row(name: str) -> BrokenRow:
    return BrokenRow(name, f"numbers.csv:{name}", "is odd")


class Opened:
    """A gate that records what it opens."""

    def __init__(self, kept: int, *, max_broken: float) -> None:
        self.opened: list[str] = []
        self.kept = kept
        self.gate = DataGate(self.corpus, self.split, fingerprint=lambda corpus: corpus.name, max_broken=max_broken)

    def corpus(self) -> Numbers:
        self.opened.append("corpus")
        return Numbers([row("1")])

    def split(self, corpus: Numbers, split: Split) -> Examples:
        assert corpus.name == "numbers"
        self.opened.append(split)
        return Examples(range(self.kept), [row(split)])


def test_nothing_is_opened_before_it_is_needed_or_twice() -> None:
    opened = Opened(9, max_broken=0.5)
    assert opened.opened == []
    assert opened.gate.split("val") is opened.gate.split("val")
    assert opened.gate.training_set is opened.gate.split("train")
    assert opened.opened == ["corpus", "val", "train"]


def test_the_quarantine_is_what_neither_trains_nor_validates() -> None:
    assert [broken.id for broken in Opened(9, max_broken=0.5).gate.quarantine] == ["1", "train", "val"]


@pytest.mark.parametrize(("kept", "allowed"), [(0, 1.0), (1, 0.5)])
def test_too_little_that_is_usable_is_refused(kept: int, allowed: float) -> None:
    with pytest.raises(DataError, match=rf"2 of {kept + 2} rows cannot be trained on"):
        Opened(kept, max_broken=allowed).gate.check()
    Opened(2, max_broken=0.5).gate.check()


def test_what_is_trained_on_may_be_other_than_the_training_split() -> None:
    gate = DataGate(
        lambda: Numbers([]),
        lambda _, split: Examples([1]),
        open_training=lambda _: Examples([1, 2]),
        fingerprint=lambda corpus: corpus.name,
        max_broken=0,
    )
    assert len(gate.training_set) == 2
    assert len(gate.split("train")) == 1
