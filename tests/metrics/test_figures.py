"""Images for people: their size, their bytes, and that what they show is in them."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

from omnictl.metrics.classification import Calibration, CalibrationBin, calibration
from omnictl.metrics.figures import (
    BLUE,
    INK,
    NAME_WIDTH,
    PAPER,
    TILE,
    Tile,
    _shorten,
    calibration_image,
    confusion_image,
    contact_sheet,
)


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def count_of(colour: tuple[int, int, int], shown: NDArray[np.uint8]) -> int:
    return int((shown == colour).all(-1).sum())


def matrix_of(num_classes: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(num_classes)
    return np.diag(rng.integers(50, 100, num_classes)) + rng.integers(0, 3, (num_classes, num_classes))


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2, 10, 100, 200])
def test_a_confusion_matrix_of_any_size_is_an_image(num_classes: int) -> None:
    matrix, names = matrix_of(num_classes), [f"class number {i}" for i in range(num_classes)]
    height, width, _ = pixels(confusion_image(matrix, names)).shape
    assert height == width <= 2_000
    assert width >= 72 * min(num_classes, 10)


def test_the_same_matrix_gives_the_same_bytes() -> None:
    assert len({confusion_image(matrix_of(10), list("abcdefghij")) for _ in range(3)}) == 1


def test_long_names_do_not_grow_the_image() -> None:
    matrix = matrix_of(3)
    long, longer = (pixels(confusion_image(matrix, ["w" * length, "b", "c"])) for length in (100, 1_000))
    assert np.array_equal(long, longer)
    assert long.shape[0] < 3 * 72 + NAME_WIDTH + 80


def test_all_of_a_row_is_blue_and_an_empty_row_is_blank() -> None:
    names = ["", "", ""]
    whole = pixels(confusion_image(np.diag([1, 1, 1]), names))
    assert 3 * 60**2 < count_of(BLUE, whole) <= 3 * 72**2
    assert 2 * 60**2 < count_of(BLUE, pixels(confusion_image(np.diag([1, 1, 0]), names))) <= 2 * 72**2
    assert count_of(BLUE, pixels(confusion_image(np.zeros((3, 3), int), names))) == 0


def test_rows_are_the_truth() -> None:
    matrix = np.array([[0, 5], [0, 5]])
    shown = pixels(confusion_image(matrix, ["", ""]))
    rows, columns = np.nonzero((shown == BLUE).all(-1))
    assert rows.max() - rows.min() > 1.8 * 72
    assert columns.max() - columns.min() < 72


def test_the_rarest_mistake_can_be_seen() -> None:
    matrix = np.diag([100_000, 100_000])
    without = pixels(confusion_image(matrix, ["a", "b"]))
    matrix[0, 1] = 1
    seen = np.abs(pixels(confusion_image(matrix, ["a", "b"])).astype(int) - without).max(-1) > 10
    assert seen.sum() > 60**2


def test_texts_are_shortened_to_what_fits() -> None:
    font = ImageFont.load_default(13)
    assert _shorten("dog", font, 100) == "dog"
    assert _shorten("a\nsmall  dog", font, 100) == "a small dog"
    short = _shorten("a very long name of a dog", font, 100)
    assert short.endswith("…")
    assert "a very long name of a dog".startswith(short[:-1])
    assert 80 < font.getlength(short) <= 100
    assert _shorten("dog", font, 1) == "…"


def square(side: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((side, side, 3), colour, np.uint8)


def test_a_contact_sheet_holds_every_image_at_one_size() -> None:
    colours = [(200, 10 * i, 0) for i in range(8)]
    sides = [1, 8, 32, 80, 81, 160, 300, 500]
    tiles = [Tile(square(side, colour), ("one", "two")) for side, colour in zip(sides, colours, strict=True)]
    png = contact_sheet(tiles, columns=3)
    shown = pixels(png)
    assert [count_of(colour, shown) for colour in colours] == [TILE**2] * 8
    assert shown.shape[1] < 4 * TILE
    assert 3 * TILE < shown.shape[0] < 4 * TILE
    assert contact_sheet(tiles, columns=3) == png


def test_long_images_keep_their_shape() -> None:
    shown = pixels(contact_sheet([Tile(np.full((20, 500, 3), 77, np.uint8), ())]))
    assert count_of((77, 77, 77), shown) == TILE * round(20 * TILE / 500)
    shown = pixels(contact_sheet([Tile(np.full((1_000, 1, 3), 77, np.uint8), ())]))
    assert count_of((77, 77, 77), shown) == TILE


def test_tiny_images_stay_sharp() -> None:
    board = np.zeros((2, 2, 3), np.uint8)
    board[0, 0] = board[1, 1] = (250, 0, 0)
    for laid_out in (board, np.asfortranarray(board)):
        shown = pixels(contact_sheet([Tile(laid_out, ())]))
        assert count_of((250, 0, 0), shown) == count_of((0, 0, 0), shown) == TILE**2 // 2


def test_captions_stay_below_their_image() -> None:
    blank = np.full((8, 8, 3), 255, np.uint8)
    shown = pixels(contact_sheet([Tile(blank, ("w" * 100,)), Tile(blank, ())]))
    _, columns = np.nonzero((shown != PAPER).any(-1))
    assert 100 < columns.max() < 12 + TILE


def test_a_sheet_of_nothing_is_blank() -> None:
    assert (pixels(contact_sheet([])) == PAPER).all()


def test_a_reliability_diagram_is_red_where_confidence_and_accuracy_differ() -> None:
    def red(accuracy: float) -> int:
        shown = pixels(calibration_image(Calibration(0.1, [CalibrationBin(0.8, 1.0, 10, 0.9, accuracy)]))).astype(int)
        return int((shown[..., 0] - shown[..., 1] > 30).sum())

    assert red(0.9) < red(0.7) < red(0.2)
    assert red(1.0) > red(0.9)


def test_a_reliability_diagram_of_many_predictions() -> None:
    confidences = np.random.default_rng(0).random(1_000)
    found = calibration(confidences, np.random.default_rng(1).random(1_000) < confidences)
    png = calibration_image(found)
    assert count_of(INK, pixels(png)) > 1_000
    assert calibration_image(found) == png
    assert pixels(calibration_image(Calibration(0.0, []))).shape == pixels(png).shape
