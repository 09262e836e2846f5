"""How the rows of a corpus are divided into splits, where they do not say so themselves.

A pure function of the rows: by hash and not by shuffling, so that a corpus is split alike wherever it lies, and a row more
moves few others. Rows of one file stay together, or what is trained on would be tested on.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from omnictl.config.split import SPLITS, Split

DEFAULT_FRACTION = 0.05


class Splittable(Protocol):
    """A row of a corpus of files."""

    @property
    def id(self) -> str:
        """Its own."""
        ...

    @property
    def file(self) -> Path:
        """May be that of other rows too."""
        ...

    @property
    def split(self) -> Split | None:
        """The one that it names, if it does."""
        ...


Row = TypeVar("Row", bound=Splittable)
Originals = Mapping[Path, str]
"""The first id of each file: its copies go where it goes."""
Take = Callable[[Sequence[Row], float, Originals], list[Row]]
"""Chooses a share of the rows."""


def take_by_hash(rows: Sequence[Row], share: float, originals: Originals) -> list[Row]:
    """The share of the files with the smallest hashes; of two or more at least one, and never all."""
    hashes = [hash_text(originals[row.file]) for row in rows]
    different = sorted(set(hashes))
    if share == 0 or len(different) < 2:
        return []
    num_taken = min(max(1, round(len(different) * share)), len(different) - 1)
    return [row for row, value in zip(rows, hashes, strict=True) if value < different[num_taken]]


def fill_splits(
    rows: Sequence[Row],
    named: Mapping[str, Split | None] | None = None,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    take_test: Take[Row] = take_by_hash,
) -> dict[Split, tuple[Row, ...]]:
    """The rows of each split, in their order. Rows that name a split keep it; a fraction fills only what no row names.

    Args:
        rows: a corpus; ids are unique.
        named: by id the split that a row names, if it does; rows without an entry are left out. None: what the rows say.
        val_fraction: share of the training rows to validate on, those with the smallest hashes; None is 0.05.
        test_fraction: share kept for the test before that; None is 0.05, or 0 if any row names a split.
        take_test: chooses it.
    """
    if named is None:
        named = {row.id: row.split for row in rows}
    assigned: dict[str, Split] = {name: split or "train" for name, split in named.items()}
    originals: dict[Path, str] = {}
    for row in rows:
        originals.setdefault(row.file, row.id)

    def fill(split: Split, take: Take[Row], share: float) -> None:
        if split not in assigned.values():
            train = [row for row in rows if assigned.get(row.id) == "train"]
            assigned.update((row.id, split) for row in take(train, share, originals))

    default = 0.0 if any(named.values()) else DEFAULT_FRACTION
    fill("test", take_test, default if test_fraction is None else test_fraction)
    fill("val", take_by_hash, DEFAULT_FRACTION if val_fraction is None else val_fraction)
    return {split: tuple(row for row in rows if assigned.get(row.id) == split) for split in SPLITS}


def hash_text(text: str) -> int:
    """64 bits that any machine finds again."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
