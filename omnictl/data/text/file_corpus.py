"""Documents read from a user's files, in three splits.

A split is a property of the document, not of a shuffle: by the hash of its text, so that copies of a document never
land on both sides, or by position where there are too few documents for that.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omnictl.config.split import SPLITS, Split
from omnictl.data.manifest.compression import open_bytes
from omnictl.data.manifest.rows import log_unread_keys
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.manifest.splits import DEFAULT_FRACTION, hash_text
from omnictl.data.text.files import TextRow, empty_text_error, read_rows, read_whole
from omnictl.data.text.splits import SplitByHash, SplitByPosition
from omnictl.errors import DataError

VERSION = 2
"""Of how texts are read and divided; a change makes their tokens in the cache worthless."""

FEWEST_DOCUMENTS = 20
"""Below this, training texts are cut by position: a split by document would hold one or none."""


@dataclass(frozen=True)
class TextFiles:
    """Documents read from files.

    Rows that name their split keep it, and so do files and folders called after one; then validation is, without rows of its own,
    taken from the training rows, and there is no test split unless asked for. Otherwise the documents with the smallest hashes are
    validation, the next ones test. Fewer than 20 documents to train on are cut in characters instead: training, validation, test.
    """

    path: Path
    files: tuple[Path, ...]
    val_fraction: float | None
    test_fraction: float | None
    markup: bool = False

    @property
    def name(self) -> str:
        """The path as given."""
        return str(self.path)

    @cached_property
    def fingerprint(self) -> str:
        """Over the bytes of the files in order, the fractions and the splits that names say, not over the names themselves."""
        digest = hashlib.sha256(repr((VERSION, self.val_fraction, self.test_fraction)).encode())
        for path in self.files:
            with open_bytes(path) as file:
                split = self._split_by_name(path) or ""
                digest.update(f"{path.suffix.lower()}{split}".encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split in a fixed order."""
        plan = self._plan
        if plan.sizes[split] == 0:
            raise self._empty(split, plan)
        if isinstance(plan, SplitByHash):
            return (row.text for row in self._rows(read_rows) if plan.split_of(row) == split)
        if split in plan.named:
            return (row.text for row in self._rows(read_whole) if row.split == split)
        return self._cut(*plan.range_of(split))

    @cached_property
    def _plan(self) -> SplitByPosition | SplitByHash:
        hashes = array("Q")
        named: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        unread: Counter[str] = Counter()
        for row in self._rows(read_rows):
            unread.update(row.unread)
            if row.split is not None:
                named[row.split] += 1
            if row.split in (None, "train"):
                hashes.append(hash_text(row.text))
        has_names = any(named.values())
        if not (hashes or has_names):
            raise empty_text_error(self.path)
        log_unread_keys(self.name, unread)
        val = 0.0 if named["val"] else _fraction(self.val_fraction, DEFAULT_FRACTION)
        test = 0.0 if named["test"] else _fraction(self.test_fraction, 0.0 if has_names else DEFAULT_FRACTION)
        if len(hashes) >= FEWEST_DOCUMENTS or (has_names and not (val or test)):
            return SplitByHash.of(hashes, named, val=val, test=test)
        lengths: Counter[Split] = Counter()
        for row in self._rows(read_whole):
            lengths[row.split or "train"] += len(row.text)
        return SplitByPosition.of(lengths, val=val, test=test)

    def _rows(self, read: Callable[[Path], Iterator[TextRow]]) -> Iterator[TextRow]:
        for path in self.files:
            split = self._split_by_name(path)
            yield from (row._replace(split=row.split or split) for row in read(path))

    def _split_by_name(self, file: Path) -> Split | None:
        """Of a folder's file: its name, or that of a folder that it lies in, may say which split its rows are."""
        return split_of_path(file, self.path) if self.path.is_dir() else None

    def _cut(self, start: int, stop: int) -> Iterator[str]:
        """The characters [start, stop) of the training texts one after the other; each text stays a document of its own."""
        begin = 0
        for text in (row.text for row in self._rows(read_whole) if row.split in (None, "train")):
            part = text[max(0, start - begin) : max(0, stop - begin)]
            if part:
                yield part
            begin += len(text)

    def _train_fix(self) -> str:
        named = [file for file in self.files if self._split_by_name(file) in ("val", "test")]
        if len(named) < len(self.files):
            return "give more text"
        is_split = f"{named[0].name} is the {self._split_by_name(named[0])} split by its name"
        return f"{is_split}: rename it, name the file itself instead of its folder, or give more text"

    def _empty(self, split: Split, plan: SplitByPosition | SplitByHash) -> DataError:
        sizes = ", ".join(f"{name} {size}" for name, size in plan.sizes.items())
        fix = self._train_fix() if split == "train" else f"give more text, or --set data.{split}_fraction=0.1"
        return DataError(f"the {split} split of {self.path} is empty ({plan.unit}: {sizes})", where=str(self.path), fix=fix)


def _fraction(configured: float | None, default: float) -> float:
    return default if configured is None else configured
