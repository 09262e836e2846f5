"""Looks images over before they are trained on: what is broken, what looks wrong, and (by `summary`) how much there is.

Broken is what training sets aside. A warning is what it takes, and a person should look at. What cannot be noticed: a wrong label
on an image that is there once, and images that are almost the same, as after another round of JPEG.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from omnictl.data.images.manifest import Labels, label_flaw, label_values
from omnictl.data.inspect.findings import Finding, FindingsReport
from omnictl.data.inspect.image_files import ImageFacts, ImageSource, decode, look, probe
from omnictl.data.inspect.summary import image_summary

LEAST_SIDE = 16
"""In pixels: less shows hardly anything."""
FEW = 5
"""Training images of a value, below which little can be learned about it."""
_SHOWN = 5
"""Values that a warning names."""


def check_images(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads every image, once however many rows it has, and holds the rows against each other.

    Args:
        source: a manifest, a corpus folder, or TinyWorld.
        limit: at most this many rows of each split.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    images = look(source, limit, decode, "checking images")
    once = list(_once_a_split(images.seen))
    warnings = [*_duplicates(once), *_conflicts(images.seen), *_small(once)]
    warnings += [*_rare(images.training, source), *_find_missing(images.training, source)]
    return _report(source, images, [*_unreadable(images), *_unknown_labels(images)], warnings)


def measure_images(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads the headers of every image and judges nothing; TinyWorld, which has no files, is drawn.

    Args:
        source: a manifest, a corpus folder, or TinyWorld.
        limit: at most this many rows of each split.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    images = look(source, limit, probe, "reading headers")
    return _report(source, images, list(_unreadable(images)), ())


def _report(source: str, images: ImageSource, broken: Sequence[Finding], warnings: Sequence[Finding]) -> FindingsReport:
    total = len(images.seen) + len(images.unreadable) + len(images.broken)
    return FindingsReport(source, "images", "rows", total, image_summary(images.seen), broken, warnings)


# What is broken


def _unreadable(images: ImageSource) -> Iterator[Finding]:
    yield from (Finding("row", *row) for row in images.broken)
    yield from (Finding("image", *row) for row in images.unreadable)


def _unknown_labels(images: ImageSource) -> Iterator[Finding]:
    """Labels that training never shows, if it shows any."""
    values = label_values(images.training)
    for row in images.seen if values else ():
        flaw = label_flaw(row.labels, values)
        if flaw is not None:
            yield Finding("label", row.id, row.where, flaw)


# What looks wrong


def _once_a_split(seen: Iterable[ImageFacts]) -> Iterable[ImageFacts]:
    """The first row of each image in each split."""
    first: dict[tuple[str, str], ImageFacts] = {}
    for row in seen:
        first.setdefault((row.split, row.image.name), row)
    return first.values()


def _duplicates(once: Iterable[ImageFacts]) -> Iterator[Finding]:
    """Images that are in an earlier split too, pixel by pixel, whatever their files are called."""
    first: dict[bytes, ImageFacts] = {}
    for row in once:
        earlier = first.setdefault(row.image.digest, row)
        if earlier.split != row.split:
            message = f"the same image is in the {earlier.split} split, this one in {row.split}: {earlier.where}"
            yield Finding("duplicate", row.id, row.where, message)


def _conflicts(seen: Iterable[ImageFacts]) -> Iterator[Finding]:
    """Images that are in their split before, under another label."""
    first: dict[tuple[str, bytes, str], ImageFacts] = {}
    for row in seen:
        for name, value in row.labels.items():
            earlier = first.setdefault((row.split, row.image.digest, name), row)
            if earlier.labels[name] != value:
                message = f"the {name} of this image is {value!r} here and {earlier.labels[name]!r} there: {earlier.where}"
                yield Finding("conflict", row.id, row.where, message)


def _small(once: Iterable[ImageFacts]) -> Iterator[Finding]:
    for row in once:
        width, height = row.image.width, row.image.height
        if min(width, height) < LEAST_SIDE:
            message = f"{width:,} × {height:,} pixels: fewer than {LEAST_SIDE} a side show hardly anything"
            yield Finding("small", row.id, row.where, message)


def _rare(training: Iterable[Labels], source: str) -> Iterator[Finding]:
    for name, counts in _counts(training).items():
        rare = [f"{value!r} ({count})" for value, count in reversed(counts.most_common()) if count < FEW]
        if rare:
            more = f" and {len(rare) - _SHOWN:,} more" if len(rare) > _SHOWN else ""
            listed = f"{', '.join(rare[:_SHOWN])}{more}"
            message = f"{len(rare):,} of {len(counts):,} values of {name!r} are in fewer than {FEW} training rows: {listed}"
            yield Finding("rare", name, source, message)


def _find_missing(training: Iterable[Labels], source: str) -> Iterator[Finding]:
    labelled = [labels for labels in training if labels]
    for name, counts in _counts(labelled).items():
        number = len(labelled) - counts.total()
        if number > len(labelled) / 2:
            message = f"{number:,} of the {len(labelled):,} training rows with labels lack the attribute {name!r}"
            yield Finding("missing", name, source, message)


def _counts(training: Iterable[Labels]) -> Mapping[str, Counter[str]]:
    """By attribute, how many rows have each value."""
    counts: dict[str, Counter[str]] = {}
    for labels in training:
        for name, value in labels.items():
            counts.setdefault(name, Counter())[value] += 1
    return counts
