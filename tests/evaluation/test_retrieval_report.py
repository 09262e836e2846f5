"""Rates of images that look for captions, and what a report of them shows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from omnictl.data.images.corpus import ImageRecord
from omnictl.evaluation.retrieval import SharedSpace, retrieval_rates, retrieval_report
from omnictl.metrics.shuffled_control import shuffled_inputs
from omnictl.trainer.stage import Report


def placed(images: Any, captions: Any, texts: Sequence[str] | None = None) -> SharedSpace:
    """Captions are `0`, `1`, … if no texts are given."""
    rows = [ImageRecord(str(n), "", {}, str(n) if texts is None else texts[n], None) for n in range(len(images))]
    return SharedSpace(rows, np.asarray(images, np.float32), np.asarray(captions, np.float32))


def ranked(ranks: Sequence[int], count: int) -> SharedSpace:
    """Images whose own caption comes at these places, from 1 on, among so many captions."""
    similarity = np.zeros((count, count), np.float32)
    for row in range(count):
        wanted = ranks[row % len(ranks)]
        others = [column for column in range(count) if column != row]
        order = [*others[: wanted - 1], row, *others[wanted - 1 :]]
        similarity[row, order] = np.linspace(1, 0, count)
    return placed(similarity, np.eye(count))


def test_a_caption_is_right_for_all_images_of_which_it_is_said() -> None:
    found = placed(np.eye(4), np.eye(4), ["a cat", "a dog", "a cat", "A cat"])
    assert found.relevant.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_rates_in_both_directions() -> None:
    rates = retrieval_rates(ranked([1, 3, 5, 8, 12], 20))
    assert next(iter(rates)) == "recall_at_5"
    assert [rates[f"recall_at_{k}"] for k in (1, 5, 10)] == pytest.approx([0.2, 0.6, 0.8])
    assert set(rates) == {f"recall_at_{k}{of}" for k in (1, 5, 10) for of in ("", "_captions")}
    backwards = ranked([1, 3, 5, 8, 12], 20)
    backwards = backwards._replace(images=backwards.captions, captions=backwards.images)
    turned = retrieval_rates(backwards)
    assert [turned[f"recall_at_{k}_captions"] for k in (1, 5, 10)] == pytest.approx([0.2, 0.6, 0.8])


def test_the_caption_of_another_image_counts_if_it_says_the_same() -> None:
    swapped = np.eye(12)[[1, 0, *range(2, 12)]]
    assert retrieval_rates(placed(swapped, np.eye(12)))["recall_at_1"] == pytest.approx(10 / 12)
    texts = ["a cat", "a cat", *map(str, range(10))]
    assert retrieval_rates(placed(swapped, np.eye(12), texts))["recall_at_1"] == 1


def test_a_report_has_the_rates_and_its_control() -> None:
    found = ranked([1, 3, 5, 8, 12], 20)
    metrics = retrieval_rates(found)
    report = retrieval_report(found, metrics, None)
    assert (report.headline, report.better, report.value, report.num_examples) == ("recall_at_5", "higher", 0.6, 20)
    assert report.metrics == metrics
    swapped = shuffled_inputs(20, seed=0)
    places = [(-found.similarity[swapped[row]]).argsort().tolist().index(row) for row in range(20)]
    assert report.controls["recall_at_5_shuffled"] == pytest.approx(np.mean([place < 5 for place in places]))
    assert report.controls["recall_at_5_shuffled_floor"] == pytest.approx(5 / 20)
    assert (report.images, report.groups) == ({}, {})


def test_captions_that_come_again_raise_the_floor() -> None:
    texts = ["a cat"] * 10 + [str(n) for n in range(10)]
    report = retrieval_report(placed(np.eye(20), np.eye(20), texts), {}, None)
    of_cats = 1 - math.comb(10, 5) / math.comb(20, 5)
    assert report.controls["recall_at_5_shuffled_floor"] == pytest.approx((of_cats + 5 / 20) / 2)


def test_a_prediction_is_the_nearest_caption() -> None:
    report = retrieval_report(placed(np.eye(3)[[1, 0, 2]], np.eye(3), ["a cat", "a dog", "a fox"]), {}, None)
    assert report.predictions[0] == {"id": "0", "task": "retrieve", "reference": "a cat", "prediction": "a dog"}
    assert [each["prediction"] for each in report.predictions] == ["a dog", "a cat", "a fox"]


def test_what_is_found_of_classes_is_shown_too() -> None:
    by_class = Report("top1", "higher", {"top1": 0.5}, 3, controls={"top1_shuffled": 0.1}, images={"worst.png": b"png"})
    report = retrieval_report(placed(np.eye(3), np.eye(3)), {"recall_at_5": 1.0, "top1": 0.5}, by_class)
    assert report.headline == "recall_at_5"
    assert set(report.controls) == {"recall_at_5_shuffled", "recall_at_5_shuffled_floor", "top1_shuffled"}
    assert report.images == {"worst.png": b"png"}
