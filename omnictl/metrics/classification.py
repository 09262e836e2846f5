"""Metrics of classification and of retrieval, with the floors of their controls.

Where the right answer has the same score as wrong ones, the wrong ones are taken to come first, and a score that is not a number
comes last: a model that cannot tell classes apart, or has broken down, is never flattered. A rate of nothing is a mistake of the
caller.

Source: Guo et al. 2017, "On calibration of modern neural networks" (the expected calibration error).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

UNKNOWN = -1
"""The target of an example of which no class is known; it counts nowhere."""


@dataclass(frozen=True)
class ClassRates:
    """How well one class is told from the others."""

    accuracy: float  # of its own examples, so its recall; 0 without any
    precision: float  # share of its own among those taken for it; 0 if nothing is
    count: int  # of its examples
    predicted: int  # examples taken for it


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions of about the same confidence: above `low`, up to `high`."""

    low: float
    high: float
    count: int
    confidence: float  # on average
    accuracy: float


class Calibration(NamedTuple):
    """Whether confidences are the rates at which predictions are right."""

    error: float  # |accuracy - confidence|, averaged over predictions by their bins
    bins: list[CalibrationBin]  # without empty ones


def top_k(scores: Floats, targets: Ints, k: int) -> float:
    """Rate of examples whose class is among the `k` with the highest scores, of those whose class is known.

    Args:
        scores: `(N, C)`, probabilities or logits.
        targets: `(N,)`, -1 where not known.
        k: how many guesses; more than `C` are always enough.
    """
    known = targets != UNKNOWN
    assert known.any(), "a rate of no examples"
    scores, targets = scores[known], targets[known]
    target_scores = np.take_along_axis(scores, targets[:, None], 1)
    rank = _not_below(scores, target_scores).sum(1)  # (N,) from 1 on, since it counts itself
    return float((rank <= min(k, scores.shape[1])).mean())


def _not_below(scores: Floats, limits: Floats) -> Bools:
    """`scores >= limits`, and true where either is not a number."""
    return ~(scores < limits)


def confusion_matrix(predicted: Ints, targets: Ints, num_classes: int) -> NDArray[np.int64]:
    """How many examples of each class (rows) were taken for each class (columns): `(C, C)`.

    Args:
        predicted: `(N,)`.
        targets: `(N,)`, -1 where not known.
        num_classes: `C`.

    Raises:
        IndexError: a class is beyond `num_classes`.
    """
    known = targets != UNKNOWN
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (targets[known], predicted[known]), 1)
    return matrix


def per_class(matrix: Ints) -> list[ClassRates]:
    """Rates of every class of a `confusion_matrix`."""
    right, counts, predicted = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    rows = zip(right.tolist(), counts.tolist(), predicted.tolist(), strict=True)
    return [
        ClassRates(num_right / max(1, count), num_right / max(1, num_predicted), count, num_predicted)
        for num_right, count, num_predicted in rows
    ]


def calibration(confidences: Floats, correct: Bools, bins: int = 15) -> Calibration:
    """The expected calibration error over bins of equal width (Guo et al. 2017, which uses 15).

    Args:
        confidences: `(N,)` in [0, 1]; a confidence of 0 is in the first bin.
        correct: `(N,)`, whether each prediction was right.
        bins: how many.
    """
    assert len(confidences) > 0, "a rate of no examples"
    edges = np.linspace(0, 1, bins + 1)
    places = np.maximum(np.searchsorted(edges, confidences, side="left") - 1, 0)
    filled = [_bin(float(edges[i]), float(edges[i + 1]), confidences[places == i], correct[places == i]) for i in np.unique(places)]
    gaps = [bin_.count * abs(bin_.accuracy - bin_.confidence) for bin_ in filled]
    return Calibration(math.fsum(gaps) / len(confidences), filled)


def _bin(low: float, high: float, confidences: Floats, correct: Bools) -> CalibrationBin:
    return CalibrationBin(low, high, len(correct), float(confidences.mean(dtype=np.float64)), float(correct.mean()))


def commonest_share(targets: Ints) -> float:
    """Share of the commonest class among the known targets `(N,)`: what is right by always saying the same."""
    known = targets[targets != UNKNOWN]
    assert len(known) > 0, "a rate of no examples"
    return float(np.bincount(known).max() / len(known))


def recall_at(similarity: Floats, relevant: Bools, k: int) -> float:
    """Rate of images with at least one relevant text among the `k` most similar, of those that have any relevant text.

    Args:
        similarity: `(N, M)` of N images and M texts; transpose both arguments to look for images by texts.
        relevant: `(N, M)`, which texts belong to which images.
        k: how many texts are looked at.
    """
    has_relevant = relevant.any(1)
    assert has_relevant.any(), "a rate of no images"
    similarity, relevant = similarity[has_relevant], relevant[has_relevant]
    best = np.where(relevant, similarity, -np.inf).max(1, keepdims=True)  # (N, 1)
    wrong_before = (_not_below(similarity, best) & ~relevant).sum(1)
    return float((wrong_before < k).mean())


def chance_recall_at(relevant: Bools, k: int) -> float:
    """What `recall_at` is on average if texts are ranked at random: 1 - C(M - r, k) / C(M, k) for an image with r relevant ones."""
    num_texts = relevant.shape[1]
    k = min(k, num_texts)
    numbers = [number for number in relevant.sum(1).tolist() if number > 0]
    assert numbers, "a rate of no images"
    missed = {number: math.comb(num_texts - number, k) / math.comb(num_texts, k) for number in set(numbers)}
    return 1 - math.fsum(missed[number] for number in numbers) / len(numbers)
