"""How documents are divided into splits where they do not say so themselves: by the hash of their text, or by position in it.

Unlike the rows of other corpora (`data.manifest.splits`), documents are too many to be held, so that only their hashes are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from omnictl.config.split import SPLITS, Split
from omnictl.data.manifest.splits import hash_text
from omnictl.data.text.files import TextRow

if TYPE_CHECKING:
    from array import array


@dataclass(frozen=True)
class SplitByPosition:
    """Cuts the training texts at characters: training first, then validation, then test, unless texts name these themselves."""

    sizes: Mapping[Split, int]
    named: frozenset[Split]
    """Splits whose texts say so, none of which are cut from those of training."""
    unit: str = "characters"

    @classmethod
    def of(cls, lengths: Mapping[Split, int], *, val: float, test: float) -> Self:
        """The cuts that give validation and test their fractions of the training texts.

        Args:
            lengths: characters of all texts of each split, before any is cut.
            val: 0 for one that texts name.
            test: the same.
        """
        num_characters = lengths["train"]
        train_end = int(num_characters * (1 - (val + test)))
        val_end = int(num_characters * (1 - test))
        sizes: dict[Split, int] = {
            "train": train_end,
            "val": lengths["val"] + val_end - train_end,
            "test": lengths["test"] + num_characters - val_end,
        }
        return cls(sizes, frozenset(split for split in SPLITS if split != "train" and lengths[split]))

    def range_of(self, split: Split) -> tuple[int, int]:
        """The characters [start, stop) of the training texts that a split has, which texts do not name."""
        start = sum(self.sizes[name] for name in SPLITS[: SPLITS.index(split)] if name not in self.named)
        return start, start + self.sizes[split]


@dataclass(frozen=True)
class SplitByHash:
    """Hashes below `val_below` are validation, from there to below `test_below` test, the others training."""

    val_below: int
    test_below: int
    sizes: Mapping[Split, int]
    unit: str = "documents"

    @classmethod
    def of(cls, hashes: "array[int]", named: Mapping[Split, int], *, val: float, test: float) -> Self:
        """The thresholds that give the splits their share of the different hashes, at least one if any."""
        values = np.array(hashes, dtype=np.uint64)
        different = np.unique(values)
        num_val, num_test = (max(1, round(len(different) * share)) if share else 0 for share in (val, test))
        val_below, test_below = (
            int(different[cut]) if cut < len(different) else 2**64  # above every hash
            for cut in (num_val, num_val + num_test)
        )
        num_below_val, num_below_test = (int((values < bound).sum()) for bound in (val_below, test_below))
        sizes: dict[Split, int] = {
            "train": len(values) - num_below_test,
            "val": named["val"] + num_below_val,
            "test": named["test"] + num_below_test - num_below_val,
        }
        return cls(val_below, test_below, sizes)

    def split_of(self, row: TextRow) -> Split:
        """The one that a row names, else that of its text."""
        if row.split in ("val", "test"):
            return row.split
        value = hash_text(row.text)
        if value < self.val_below:
            return "val"
        return "test" if value < self.test_below else "train"
