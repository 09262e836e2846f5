"""Which labels are easily taken for each other, so that a "no" has to be seen and not guessed.

Numbers: the nearest. Other labels: first those that share a word ("golden retriever", "labrador retriever"), then those whose
training images look most alike: the distance between the means of their images at 8 × 8 pixels, brightness and contrast
taken out.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnictl.data.images.describe.image_contents import ImageContent
from omnictl.data.images.files.decoder import read_image
from omnictl.data.manifest.thread_pool import measure_in_parallel
from omnictl.errors import DataError
from omnictl.progress import log_progress

NEAREST = 3
"""Labels that each is mixed up with, at least: to be the nearest of another makes both similar."""

MOST_COMPARED = 2_000
"""Labels of an attribute; of more, only their names are compared, with their neighbours in the order of their last words."""

MOST_DIGITS = 16
"""Of labels that are compared as numbers."""

IMAGES_OF_LABEL, LEAST_IMAGES_OF_LABEL = 128, 8
"""Training images, at most, that a label's mean is made of: fewer if there are many labels, but never less than the second."""

IMAGES_COMPARED = 10_000
"""About as many images are looked at in all, of each attribute."""

SOFTEST_CONTRAST = 8.0
"""Of a pixel's 256 levels: differences of less are noise."""

SIDE = 8
"""Pixels of an image's side, before the mean is taken."""

Thumbnail = NDArray[np.float64]
"""(SIDE · SIDE · 3,): an image without its brightness and contrast, or the mean of a label's."""

LabelWords = Mapping[str, frozenset[str]]
"""The words of each label."""


def mean_looks(images: Sequence[ImageContent], attributes: Sequence[str]) -> dict[str, dict[str, Thumbnail]]:
    """How the images of each label look on average, by attribute.

    Args:
        images: of the training split, in an order that has nothing to do with their labels.
        attributes: whose labels are compared.
    """
    members: dict[Path, list[tuple[str, str]]] = {}
    counts: dict[tuple[str, str], int] = {}
    most = {name: _most_images(len({image.labels.get(name) for image in images})) for name in attributes}
    for image in images:
        for name in attributes:
            label = (name, image.labels.get(name, ""))
            if label[1] and counts.get(label, 0) < most[name]:
                counts[label] = counts.get(label, 0) + 1
                members.setdefault(image.file, []).append(label)
    files = list(members)
    sums: dict[tuple[str, str], Thumbnail] = {}
    thumbnails = log_progress(measure_in_parallel(files, _thumbnail), "comparing labels by their images", len(files))
    for file, look in zip(files, thumbnails, strict=True):
        if not isinstance(look, DataError):  # broken files are named before; one that breaks now is missing from a mean
            for label in members[file]:
                sums[label] = sums.get(label, np.zeros_like(look)) + look / counts[label]
    looks: dict[str, dict[str, Thumbnail]] = {name: {} for name in attributes}
    for (name, value), look in sums.items():
        looks[name][value] = look
    return looks


def _thumbnail(file: Path) -> Thumbnail:
    pixels = read_image(file, shorter=SIDE)  # (H, W, 3), the shorter side at most SIDE
    rows, columns = (np.linspace(0, length - 1, SIDE).round().astype(int) for length in pixels.shape[:2])
    values = pixels[np.ix_(rows, columns)].astype(np.float64).ravel()
    look: Thumbnail = (values - values.mean()) / (values.std() + SOFTEST_CONTRAST)
    return look


def _most_images(num_labels: int) -> int:
    return max(LEAST_IMAGES_OF_LABEL, min(IMAGES_OF_LABEL, IMAGES_COMPARED // num_labels))


def find_similar(labels: Sequence[str], words: LabelWords, looks: Mapping[str, Thumbnail]) -> dict[str, tuple[str, ...]]:
    """The labels that each label is easily taken for, the most similar first; none that may be true at the same time.

    Args:
        labels: of an attribute.
        words: of each; one whose words all are among another's ("dog", "hot dog") may be true of the same image.
        looks: means of their images, as far as these could be read.
    """
    near = _nearest_of(labels, words, looks)
    similar = {label: list(near(label)) for label in labels}
    for label in labels:
        for other in similar[label][:NEAREST]:
            if label not in similar[other]:
                similar[other].append(label)
    return {label: tuple(others) for label, others in similar.items()}


def may_both_be_true(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether all words of one label are among the other's."""
    return one <= other or other <= one


def _nearest_of(labels: Sequence[str], words: LabelWords, looks: Mapping[str, Thumbnail]) -> Callable[[str], list[str]]:
    if len(labels) > MOST_COMPARED:
        return _nearest_by_name(labels, words)
    numeric = all(label.isdecimal() and len(label) < MOST_DIGITS for label in labels)
    unknown = np.zeros(SIDE * SIDE * 3)
    points = np.stack([np.array([float(label)]) if numeric else looks.get(label, unknown) for label in labels])  # (labels, D)

    def nearest(label: str) -> list[str]:
        own = words[label]
        distances = np.linalg.norm(points - points[labels.index(label)], axis=1)  # (labels,)
        others = (
            (0 if numeric else -len(own & words[other]), distance, other)
            for other, distance in zip(labels, distances.tolist(), strict=True)
            if other != label and not may_both_be_true(own, words[other])
        )
        return [other for _, _, other in heapq.nsmallest(NEAREST, others)]

    return nearest


def _nearest_by_name(labels: Sequence[str], words: LabelWords) -> Callable[[str], list[str]]:
    order = sorted(labels, key=lambda label: label.replace("_", " ").split()[::-1])
    places = {label: place for place, label in enumerate(order)}

    def nearest(label: str) -> list[str]:
        place = places[label]
        first = max(0, place - NEAREST)
        window = order[first : place + 1 + NEAREST]
        others = (other for other in window if other != label and not may_both_be_true(words[label], words[other]))
        return sorted(others, key=lambda other: (-len(words[label] & words[other]), abs(places[other] - place)))[:NEAREST]

    return nearest
