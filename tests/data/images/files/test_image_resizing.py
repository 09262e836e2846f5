import numpy as np
import pytest
from image_files import (
    NOISE,
    encoded,
    png,
)
from PIL import Image

from omnictl.data.images.files import decoder
from omnictl.data.images.files.decoder import read_image


def far(one, other):
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize(
    ("width", "height", "shorter", "expected"),
    [
        (18, 12, 12, (18, 12)),
        (18, 12, 100, (18, 12)),
        (18, 12, 11, (16, 11)),
        (18, 12, 4, (6, 4)),
        (18, 12, 1, (2, 1)),
        (1_000, 37, 5, (135, 5)),
        (37, 1_000, 5, (5, 135)),
        (2_000, 1_000, 1, (2, 1)),
        (300, 301, 32, (32, 32)),
        (640, 480, 64, (85, 64)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_shorter_side_is_as_asked_and_nothing_grows(read, width, height, shorter, expected, kind):
    pixels = read(encoded(Image.new("RGB", (width, height), (40, 90, 200)), kind), shorter=shorter)
    assert pixels.shape == (expected[1], expected[0], 3)
    assert far(pixels, np.array([40, 90, 200])) <= 2


def waves(width, height):
    """(H, W, 3): slow ones, which survive."""
    y, x = np.mgrid[:height, :width] + 0.5
    levels = [np.sin(x / width * 9 + y / height * 5 + shift) for shift in (0, 2, 4)]
    return (127.5 + 100 * np.stack(levels, axis=2)).astype(np.uint8)


@pytest.mark.parametrize(("width", "height", "shorter"), [(1_023, 769, 64), (1_023, 769, 200), (1_023, 769, 700), (509, 1_021, 31)])
@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 2), ("JPEG", 6)])
def test_smaller_images_show_the_same(read, width, height, shorter, kind, tolerance):
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    pixels = read(encoded(waves(width, height), kind, **options), shorter=shorter)
    assert far(pixels, waves(pixels.shape[1], pixels.shape[0])) <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shorter", [16, 50, 90])
def test_fine_detail_is_averaged(read, kind, shorter):
    stripes = np.zeros((200, 304, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = read(encoded(stripes, kind, quality=95), shorter=shorter)
    assert far(pixels[:, 1:-1], np.full(3, 127)) < 40  # black and white at the edges, where the filter sees one stripe more
    assert pixels.std() < 12


@pytest.mark.parametrize(("shorter", "size"), [(None, 1_600), (700, 1_600), (300, 800), (150, 400), (64, 200), (5, 200)])
def test_jpegs_are_decoded_at_reduced_size(tmp_path, monkeypatch, shorter, size):
    sizes = []
    flat = decoder._flatten

    def seen(band, *rest):
        sizes.append(band.width)
        return flat(band, *rest)

    monkeypatch.setattr(decoder, "_flatten", seen)
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(waves(1_600, 1_600), "JPEG"))
    assert read_image(path, shorter=shorter).shape[0] == (shorter or 1_600)
    assert set(sizes) == {size}


@pytest.mark.parametrize("shorter", [None, 3, 10, 60])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_bands_are_the_whole(read, monkeypatch, shorter, kind):
    data = encoded(Image.fromarray(waves(123, 217)).quantize(64) if kind == "GIF" else waves(123, 217), kind)
    whole = read(data, shorter=shorter)
    for band_pixels in (1, 700, 5_000):
        monkeypatch.setattr(decoder, "_BAND_PIXELS", band_pixels)
        assert np.array_equal(read(data, shorter=shorter), whole)


JPEG = encoded(NOISE, "JPEG")

PNG = png(NOISE, 8, 2)

GIF = encoded(Image.new("L", (18, 12)), "GIF")
