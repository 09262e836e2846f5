"""Metrics of classification and retrieval, against loops over examples and over all rankings."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from omnictl.metrics.classification import (
    CalibrationBin,
    ClassRates,
    calibration,
    chance_recall_at,
    commonest_share,
    confusion_matrix,
    per_class,
    recall_at,
    top_k,
)
from omnictl.metrics.shuffled_control import shuffled_inputs

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 2, 5, 6, 100])
def test_top_k_is_what_a_loop_counts(k: int) -> None:
    scores, targets = RNG.normal(size=(200, 6)), RNG.integers(-1, 6, 200)
    hits = [target in np.argsort(-row)[:k] for row, target in zip(scores, targets, strict=True) if target >= 0]
    assert top_k(scores, targets, k) == pytest.approx(np.mean(hits))


def test_equal_scores_do_not_flatter() -> None:
    targets = np.arange(4)
    assert [top_k(np.zeros((4, 4)), targets, k) for k in (1, 3, 4, 9)] == [0, 0, 1, 1]
    assert top_k(np.array([[0.5, 0.5, 0.0]]), np.array([0]), 1) == 0
    assert top_k(np.array([[0.5, 0.5, 0.0]]), np.array([0]), 2) == 1


def test_a_broken_model_does_not_flatter() -> None:
    assert top_k(np.full((4, 4), np.nan), np.arange(4), 3) == 0
    assert top_k(np.array([[1.0, np.nan, 0.0]]), np.array([0]), 1) == 0
    nothing = np.full((2, 3), np.nan)
    assert recall_at(nothing, np.eye(2, 3, dtype=bool), 2) == 0


def test_what_is_not_known_is_left_out() -> None:
    scores, targets = np.eye(3), np.array([0, -1, 0])
    assert top_k(scores, targets, 1) == 0.5
    assert confusion_matrix(np.array([0, 1, 2]), targets, 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert commonest_share(np.array([2, -1, -1, -1, 2, 1])) == pytest.approx(2 / 3)


def test_a_confusion_matrix_is_what_a_loop_counts() -> None:
    predicted, targets = RNG.integers(0, 5, 300), RNG.integers(-1, 5, 300)
    matrix = np.zeros((5, 5), int)
    for guess, target in zip(predicted, targets, strict=True):
        if target >= 0:
            matrix[target, guess] += 1
    assert np.array_equal(confusion_matrix(predicted, targets, 5), matrix)


def test_classes_beyond_the_matrix_are_refused() -> None:
    with pytest.raises(IndexError):
        confusion_matrix(np.array([3]), np.array([0]), 3)
    with pytest.raises(IndexError):
        confusion_matrix(np.array([0]), np.array([3]), 3)


def test_rates_of_each_class() -> None:
    matrix = np.array([[3, 1, 0, 0], [2, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert per_class(matrix) == [
        ClassRates(accuracy=3 / 4, precision=3 / 5, count=4, predicted=5),
        ClassRates(accuracy=1 / 2, precision=2 / 4, count=4, predicted=4),
        ClassRates(accuracy=0, precision=0, count=1, predicted=0),
        ClassRates(accuracy=0, precision=0, count=0, predicted=0),
    ]


def test_the_calibration_error_is_what_a_loop_finds() -> None:
    confidences = RNG.random(500)
    correct = RNG.random(500) < confidences**2
    expected = 0.0
    for number in range(15):
        inside = [i for i, one in enumerate(confidences) if number / 15 < one <= (number + 1) / 15]
        if inside:
            expected += len(inside) / 500 * abs(np.mean(correct[inside]) - np.mean(confidences[inside]))
    assert calibration(confidences, correct).error == pytest.approx(expected)


def test_bins_hold_their_upper_edge_and_empty_ones_are_left_out() -> None:
    found = calibration(np.array([0.0, 0.25, 0.5, 1.0, 1.0]), np.array([False, True, True, True, False]), bins=4)
    assert found.bins == [
        CalibrationBin(0.0, 0.25, 2, 0.125, 0.5),
        CalibrationBin(0.25, 0.5, 1, 0.5, 1.0),
        CalibrationBin(0.75, 1.0, 2, 1.0, 0.5),
    ]
    assert found.error == pytest.approx((2 * 0.375 + 0.5 + 2 * 0.5) / 5)


def test_every_confidence_is_in_a_bin() -> None:
    edges = np.linspace(0, 1, 16).astype(np.float32)
    around = np.clip(np.concatenate([edges, np.nextafter(edges, 2), np.nextafter(edges, -1)]), 0, 1)
    assert sum(one.count for one in calibration(around, np.ones(48, bool)).bins) == 48


def test_a_model_as_sure_as_it_is_right_has_no_error() -> None:
    found = calibration(np.full(10, 0.7), np.arange(10) < 7)
    assert found.error == pytest.approx(0)


def test_a_rate_of_nothing_is_a_mistake() -> None:
    none = np.array([-1, -1])
    with pytest.raises(AssertionError, match="a rate of no examples"):
        top_k(np.eye(2), none, 1)
    with pytest.raises(AssertionError, match="a rate of no examples"):
        commonest_share(none)
    with pytest.raises(AssertionError, match="a rate of no examples"):
        calibration(np.array([]), np.array([], bool))
    with pytest.raises(AssertionError, match="a rate of no images"):
        recall_at(np.eye(2), np.zeros((2, 2), bool), 1)
    with pytest.raises(AssertionError, match="a rate of no images"):
        chance_recall_at(np.zeros((2, 2), bool), 1)


def test_guessing_the_commonest_class_is_right_as_often_as_its_share() -> None:
    targets = np.array([0] * 70 + [1] * 30)
    always = np.tile([1.0, 0.0], (100, 1))
    assert top_k(always, targets[shuffled_inputs(len(targets), seed=0)], 1) == commonest_share(targets) == 0.7


@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_recall_is_what_a_loop_counts(k: int) -> None:
    similarity, relevant = RNG.normal(size=(60, 7)), RNG.random((60, 7)) < 0.2
    hits = [own[np.argsort(-row)[:k]].any() for row, own in zip(similarity, relevant, strict=True) if own.any()]
    assert 0 < len(hits) < 60
    assert recall_at(similarity, relevant, k) == pytest.approx(np.mean(hits))


def test_equal_similarities_do_not_flatter() -> None:
    relevant = np.array([[True, True, False, False]])
    assert [recall_at(np.zeros((1, 4)), relevant, k) for k in (1, 2, 3, 4)] == [0, 0, 1, 1]


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_chance_is_the_average_over_all_rankings(k: int) -> None:
    relevant = np.array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    recalls = [recall_at(np.tile(np.array(order), (4, 1)), relevant, k) for order in itertools.permutations(range(5))]
    assert chance_recall_at(relevant, k) == pytest.approx(math.fsum(recalls) / len(recalls))


def test_chance_among_many_texts() -> None:
    relevant = np.zeros((2, 30_000), bool)
    relevant[:, :5] = True
    assert chance_recall_at(relevant, 10) == pytest.approx(50 / 30_000, rel=2e-3)


def test_float16_scores_and_small_integers_are_welcome() -> None:
    scores, targets = np.eye(3, dtype=np.float16), np.array([0, 1, 1], np.int8)
    assert top_k(scores, targets, 1) == pytest.approx(2 / 3)
    assert confusion_matrix(scores.argmax(1).astype(np.uint8), targets, 3).trace() == 2


def test_numpy_is_enough() -> None:
    script = "import sys, omnictl.metrics.classification; assert not {'torch', 'jiwer', 'PIL'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
