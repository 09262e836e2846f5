"""What is known of each image of a corpus: labels and captions of all its rows together, in the split that `vision` has it in."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.data.images.file_corpus import ImageFiles
from omnictl.data.images.manifest import ImageRow, label_flaw, label_values
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.splits import hash_text

Places = list[tuple[Split, ImageRow]]


class ImageContent(NamedTuple):
    """An image and all that is said about it."""

    id: str
    """That of its first row."""
    file: Path
    """As its first row has it."""
    split: Split
    labels: Mapping[str, str]
    captions: tuple[str, ...]


class CorpusContents(NamedTuple):
    """The images of a corpus that something is known of, and the rows, or facts of them, that cannot be used."""

    images: Mapping[Split, Sequence[ImageContent]]
    """In an order that the seed shuffles, the labels spread evenly."""
    values: Mapping[str, tuple[str, ...]]
    """Of each attribute, in the training split."""
    set_aside: tuple[BrokenRow, ...]
    num_rows: int


def read_contents(corpus: ImageFiles, seed: int) -> CorpusContents:
    """The images of a corpus, each once.

    Set aside are broken rows; images that two splits have; values that contradict each other; and, as `vision` does, labels of
    rows with a value that the training split never has.

    Args:
        corpus: of files.
        seed: of the order.
    """
    values = label_values(row.labels for row in corpus.rows("train"))
    places: dict[str, Places] = {}
    for split in SPLITS:
        for row in corpus.rows(split):
            places.setdefault(os.path.realpath(row.image), []).append((split, row))
    images: dict[Split, list[ImageContent]] = {split: [] for split in SPLITS}
    broken = list(corpus.broken)
    for rows in places.values():
        content = _merge(rows, values, broken)
        if content is not None:
            images[content.split].append(content)
    num_rows = len(corpus.broken) + sum(map(len, places.values()))
    ordered = {split: _shuffle(contents, seed) for split, contents in images.items()}
    return CorpusContents(ordered, values, tuple(broken), num_rows)


def _shuffle(contents: Sequence[ImageContent], seed: int) -> list[ImageContent]:
    """Images by hash, those of each label (of the first attribute) spread evenly: hardly ever do many of one follow each other."""
    by_hash = sorted(contents, key=lambda content: hash_text(f"{seed}/{content.id}"))
    totals = Counter(_first_label(content) for content in contents)
    seen: Counter[str] = Counter()
    places: dict[str, float] = {}
    for content in by_hash:
        label = _first_label(content)
        places[content.id] = (seen[label] + hash_text(f"{seed}/place/{content.id}") / 2**64) / totals[label]
        seen[label] += 1
    return sorted(by_hash, key=lambda content: places[content.id])


def _first_label(content: ImageContent) -> str:
    return next(iter(content.labels.values()), "")


def _merge(rows: Places, values: Mapping[str, tuple[str, ...]], broken: list[BrokenRow]) -> ImageContent | None:
    """All that the rows of an image say; what cannot be used of it goes to `broken`."""
    split, first = rows[0]
    others = [(name, row) for name, row in rows if name != split]
    if others:
        name, row = others[0]
        message = f"the same image is in the {split} and in the {name} split: {row.where}"
        broken.extend(BrokenRow(row.id, row.where, message) for _, row in rows)
        return None
    labels: dict[str, str] = {}
    for flaw, row in _contradictions([row for _, row in rows], labels):
        broken.append(BrokenRow(row.id, row.where, flaw))
    unknown = label_flaw(labels, values)
    if unknown is not None:
        broken.append(BrokenRow(first.id, first.where, f"{unknown}, so its labels are left out"))
        labels = {}
    captions = tuple(dict.fromkeys(" ".join(row.caption.split()) for _, row in rows if row.caption))
    return ImageContent(first.id, first.image, split, labels, captions) if labels or captions else None


def _contradictions(rows: Sequence[ImageRow], labels: dict[str, str]) -> Iterator[tuple[str, ImageRow]]:
    """Fill in the labels of the rows of one image, without those on which they differ; which these are."""
    first: dict[str, ImageRow] = {}
    differ: set[str] = set()
    for row in rows:
        for name, value in row.labels.items():
            earlier = first.setdefault(name, row)
            if earlier.labels[name] == value:
                labels[name] = value
            else:
                differ.add(name)
                said = f"the {name} of this image is {value!r} here and {earlier.labels[name]!r} there: {earlier.where}"
                yield f"{said}; it is left out", row
    for name in differ:
        del labels[name]
