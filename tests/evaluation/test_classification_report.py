"""Rates of classes, and what a report of them shows."""

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnictl.data.images.corpus import ImageRecord, Pixels
from omnictl.errors import ConfigError
from omnictl.evaluation import vision
from omnictl.evaluation.vision import (
    WORST_IMAGES,
    Classes,
    ClassificationResult,
    Float32,
    class_rates,
    classification_report,
    joint,
    patch_rates,
)
from omnictl.metrics.figures import Tile
from omnictl.metrics.shuffled_control import shuffled_inputs

ATTRIBUTES = {"shape": ("star", "ring"), "size": ("big", "small"), "colour": ("red", "blue", "pink")}
SIX = Classes.of(ATTRIBUTES, ("shape", "colour"), frozenset({("ring", "blue"), ("star", "pink")}))
STAR_RED, STAR_BLUE, STAR_PINK, RING_RED, RING_BLUE, RING_PINK = range(6)


def probabilities_of(*rows: Mapping[int, float]) -> Float32:
    """Of six classes; those that are not named share what is left, unequally."""
    found = np.zeros((len(rows), 6), np.float32)
    for scores, row in zip(found, rows, strict=True):
        scores[:] = np.linspace(1.01, 1, 6) * (1 - sum(row.values())) / 6.03
        for number, value in row.items():
            scores[number] += value
    return found


def classified(*images: tuple[int, Mapping[int, float]]) -> ClassificationResult:
    """Images `0`, `1`, … of a class and with the probability of some."""
    rows = [ImageRecord(str(number), f"list:{number}", {}, None, None) for number in range(len(images))]
    return ClassificationResult(rows, probabilities_of(*(row for _, row in images)), np.array([target for target, _ in images]))


def show(index: int) -> Pixels:
    """Three by five pixels of a grey that tells the number."""
    return np.full((3, 5, 5), index, np.uint8)


def report_of(found: ClassificationResult, **metrics: float) -> Any:
    return classification_report(found, SIX, {"top1": 0.5, **metrics}, show, {})


# Classes


def test_classes_are_all_combinations_in_the_order_asked_for() -> None:
    assert SIX.attributes == ("shape", "colour")
    assert SIX.values == tuple(itertools.product(("star", "ring"), ("red", "blue", "pink")))
    assert SIX.names == ("red star", "blue star", "pink star", "red ring", "blue ring", "pink ring")
    assert Classes.of(ATTRIBUTES, ("size",), frozenset()).values == (("big",), ("small",))


def test_the_number_of_a_class() -> None:
    for number, (shape, colour) in enumerate(SIX.values):
        assert SIX.number({"shape": shape, "colour": colour, "size": "big"}) == number
    assert SIX.number({"shape": "star"}) == SIX.number({}) == SIX.number({"shape": "moon", "colour": "red"}) == -1


def test_unseen_classes() -> None:
    assert [SIX.is_unseen(number) for number in range(6)] == [False, False, True, False, True, False]
    assert not SIX.is_unseen(-1)


def test_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Classes.of(ATTRIBUTES, ("shape", "taste"), frozenset())
    assert caught.value.message == "there is no attribute 'taste'"
    assert caught.value.where == "data.top1"
    assert caught.value.fix == 'choose from shape, size, colour: --set data.top1=["shape"]'


def test_too_many_combinations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "MOST_CLASSES", 11)
    assert len(Classes.of(ATTRIBUTES, ("shape", "colour"), frozenset()).values) == 6
    with pytest.raises(ConfigError) as caught:
        Classes.of(ATTRIBUTES, ("shape", "size", "colour"), frozenset())
    assert caught.value.message == "12 combinations of shape, size, colour are too many for top1"
    assert caught.value.where == "data.top1"


# Rates


@pytest.mark.parametrize("sizes", [(4,), (2, 3), (3, 1, 2, 2)])
def test_joint_probabilities_are_products(sizes: Sequence[int]) -> None:
    parts = [np.random.default_rng(n).dirichlet(np.ones(size), 5).astype(np.float32) for n, size in enumerate(sizes)]
    combined = joint(parts)
    for row in range(5):
        expected = [
            np.prod([part[row, value] for part, value in zip(parts, values, strict=True)])
            for values in itertools.product(*map(range, sizes))
        ]
        np.testing.assert_allclose(combined[row], expected, rtol=1e-5)
    np.testing.assert_allclose(combined.sum(1), 1, rtol=1e-5)


def test_joint_probabilities_are_in_the_order_of_classes() -> None:
    ring, pink = np.array([[0.1, 0.9]], np.float32), np.array([[0.2, 0.1, 0.7]], np.float32)
    assert joint([ring, pink]).argmax() == SIX.number({"shape": "ring", "colour": "pink"})


RIGHT, SECOND, LAST = 0.9, 0.3, 0.0


def at(target: int, probability: float) -> tuple[int, Mapping[int, float]]:
    """An image whose own class is the likeliest, the second, or the last."""
    other = (target + 1) % 6
    if probability == LAST:
        return target, {other: 0.5, target: -0.08}
    return target, {target: probability, **({other: 0.6} if probability == SECOND else {})}


def test_without_new_classes_all_images_count() -> None:
    found = classified(at(STAR_RED, RIGHT), at(RING_RED, RIGHT), at(STAR_BLUE, SECOND), at(RING_PINK, LAST))
    assert class_rates(found, SIX) == {"top1": 0.5, "top5": 0.75}


def test_new_classes_count_apart() -> None:
    known = [at(STAR_RED, RIGHT), at(RING_RED, RIGHT), at(STAR_BLUE, LAST), at(STAR_BLUE, SECOND)]
    new = [at(RING_BLUE, RIGHT), at(STAR_PINK, SECOND), at(STAR_PINK, LAST)]
    rates = class_rates(classified(*known, *new), SIX)
    assert rates == {"top1": 0.5, "top5": 0.75, "top1_heldout_pairs": pytest.approx(1 / 3)}
    assert next(iter(rates)) == "top1"


def test_where_all_classes_are_new_they_are_the_headline() -> None:
    rates = class_rates(classified(at(RING_BLUE, RIGHT), at(STAR_PINK, SECOND)), SIX)
    assert rates == {"top1": 0.5, "top5": 1.0, "top1_heldout_pairs": 0.5}


def test_images_of_no_known_class_do_not_count() -> None:
    unknown = (-1, {STAR_RED: 0.9})
    assert class_rates(classified(at(STAR_RED, RIGHT), unknown, at(STAR_RED, SECOND)), SIX)["top1"] == 0.5
    rates = class_rates(classified(at(STAR_RED, RIGHT), unknown, at(RING_BLUE, LAST)), SIX)
    assert rates == {"top1": 1.0, "top5": 1.0, "top1_heldout_pairs": 0.0}


def test_beside_new_classes_alone_images_of_no_known_class_do_not_count_either() -> None:
    rates = class_rates(classified(at(RING_BLUE, RIGHT), (-1, {STAR_RED: 0.9}), at(RING_BLUE, SECOND)), SIX)
    assert rates == {"top1": 0.5, "top5": 1.0, "top1_heldout_pairs": 0.5}


def test_patches_are_right_if_all_of_their_attributes_are() -> None:
    shows = np.array([[[0, 0], [1, 2], [3, 4]], [[0, 0], [0, 0], [5, 5]]])
    patches = np.array([[[0, 0], [1, 3], [3, 4]], [[0, 1], [0, 0], [5, 5]]])
    rates = patch_rates(patches, shows)
    assert rates == {"patch_accuracy": pytest.approx(2 / 3), "patch_accuracy_background": pytest.approx(2 / 3)}
    wrong_ground = patch_rates(patches + (shows == 0), shows)
    assert wrong_ground == {"patch_accuracy": pytest.approx(2 / 3), "patch_accuracy_background": 0.0}


def test_where_nobody_knows_what_patches_show_there_is_no_rate() -> None:
    assert patch_rates(np.zeros((1, 0, 0), np.int64), np.zeros((3, 0, 0), np.int64)) == {}
    assert patch_rates(np.zeros((3, 4, 2), np.int64), np.zeros((3, 0, 0), np.int64)) == {}


# Reports


MIXED = classified(
    at(STAR_RED, RIGHT), at(RING_RED, RIGHT), at(RING_RED, SECOND), at(RING_RED, LAST), (-1, {RING_PINK: 0.8}), at(STAR_BLUE, 0.5)
)


def test_a_report_has_the_metrics_and_its_control() -> None:
    report = report_of(MIXED, loss=2.5)
    assert (report.headline, report.better, report.num_examples) == ("top1", "higher", 6)
    assert list(report.metrics) == ["top1", "loss", "calibration_error"]
    sure, right = MIXED.probabilities.max(1)[[0, 1, 2, 3, 5]], [1, 1, 0, 0, 1]
    assert 0 < report.metrics["calibration_error"] <= np.abs(sure - right).mean() + 1e-6
    swapped = shuffled_inputs(len(MIXED.targets), seed=0)
    given = [MIXED.probabilities[index].argmax() for index in swapped]
    right = [one == target for one, target in zip(given, MIXED.targets, strict=True) if target >= 0]
    assert report.controls == {"top1_shuffled": np.mean(right), "top1_shuffled_floor": pytest.approx(3 / 5)}


def test_what_is_always_the_same_is_no_better_than_its_floor() -> None:
    always = classified(*[(target, {STAR_RED: 0.9}) for target in (0, 0, 1, 3, 0, 5, 3, 1)])
    report = report_of(always)
    assert report.controls["top1_shuffled"] == report.controls["top1_shuffled_floor"] == class_rates(always, SIX)["top1"] == 3 / 8


def test_what_knows_everything_knows_nothing_of_other_images() -> None:
    report = report_of(classified(*[at(number % 6, RIGHT) for number in range(600)]))
    assert report.controls["top1_shuffled"] == pytest.approx(1 / 6, abs=0.06)
    assert report.controls["top1_shuffled_floor"] == pytest.approx(1 / 6)


def test_every_prediction_is_in_the_report() -> None:
    found = MIXED._replace(rows=[row._replace(image=Path(f"/x/{row.id}.png")) for row in MIXED.rows[:5]] + [MIXED.rows[5]])
    predictions = report_of(found).predictions
    assert predictions[2] == {
        "id": "2",
        "task": "classify",
        "reference": "red ring",
        "prediction": "blue ring",
        "probability": round(float(found.probabilities[2].max()), 4),
        "image": "/x/2.png",
    }
    assert predictions[4]["reference"] is None
    assert "image" not in predictions[5]
    assert [json.loads(json.dumps(each))["id"] for each in predictions] == list("012345")


def test_groups_are_the_classes_that_there_are() -> None:
    assert report_of(MIXED).groups == {
        "red star": {"top1": 1.0, "precision": 1.0, "pictures": 1},
        "blue star": {"top1": 1.0, "precision": 1.0, "pictures": 1},
        "red ring": {"top1": pytest.approx(1 / 3), "precision": 1.0, "pictures": 3},
    }


def test_the_images_of_a_report_can_be_opened() -> None:
    for found in (MIXED, classified(at(STAR_RED, RIGHT))):
        images = report_of(found).images
        assert list(images) == ["confusion.png", "calibration.png", "worst.png"]
        for content in images.values():
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                assert image.format == "PNG"
                assert min(image.size) > 100


def tiles_of(found: ClassificationResult, monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    seen: list[Tile] = []
    monkeypatch.setattr(vision, "contact_sheet", lambda tiles: seen.extend(tiles) or b"")
    report_of(found)
    return seen


def test_the_worst_mistakes_are_the_surest_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [
        (STAR_RED, {STAR_RED: 0.99}),  # right
        (STAR_RED, {RING_RED: 0.5}),
        (STAR_BLUE, {RING_PINK: 0.9}),
        (-1, {RING_RED: 0.99}),  # nobody knows
        (RING_RED, {STAR_RED: 0.7}),
    ]
    tiles = tiles_of(classified(*images), monkeypatch)
    assert [tile.lines[2] for tile in tiles] == ["2", "4", "1"]
    assert tiles[0].lines == ("pink ring 0.92", "is blue star", "2")
    assert tiles[0].image.shape == (5, 5, 3)
    assert [int(tile.image[0, 0, 0]) for tile in tiles] == [2, 4, 1]


def test_without_mistakes_the_least_sure_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = tiles_of(classified(at(STAR_RED, 0.9), at(STAR_BLUE, 0.4), (-1, {STAR_RED: 0.1}), at(RING_RED, 0.6)), monkeypatch)
    assert [tile.lines[2] for tile in tiles] == ["1", "3", "0"]


def test_only_so_many_of_the_worst_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [(STAR_RED, {RING_RED: 0.5 + 0.001 * number}) for number in range(WORST_IMAGES + 20)]
    tiles = tiles_of(classified(*wrong), monkeypatch)
    assert [tile.lines[2] for tile in tiles] == [str(number) for number in range(WORST_IMAGES + 19, 19, -1)]
