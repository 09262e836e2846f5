import io
import struct

import numpy as np
import pytest
from image_files import (
    NOISE,
    SMOOTH,
    bmp,
    encoded,
    png,
    png_chunk,
)
from PIL import Image

from omnictl.data.images.files.decoder import ImageInfo, probe_image

GREY = NOISE[..., :1].astype(int)
"""(H, W, 1)"""


def far(one, other):
    return int(np.abs(one.astype(int) - other).max())


def repeated(grey):
    """(H, W, 1) -> (H, W, 3)"""
    return np.repeat(grey, 3, axis=2)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"optimize": True}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_formats_without_loss_are_exact(read, tmp_path, kind, options):
    pixels = read(encoded(NOISE, kind, **options))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, NOISE)
    assert probe_image(tmp_path / "a.image") == ImageInfo(18, 12, kind)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {"quality": 95})])
def test_formats_with_loss_are_close(read, tmp_path, kind, options):
    assert far(read(encoded(SMOOTH, kind, **options)), SMOOTH) < 24
    assert probe_image(tmp_path / "a.image") == ImageInfo(18, 12, kind)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "JPEG"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_mode_of_every_format_is_as_pillow_has_it(read, kind, mode):
    image = Image.fromarray(NOISE)
    data = encoded(image.quantize(16) if mode == "P" and kind != "JPEG" else image.convert(mode.replace("P", "L")), kind)
    with Image.open(io.BytesIO(data)) as reference:
        assert np.array_equal(read(data), np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_are_stretched(read, bits):
    grey = GREY % (1 << bits)
    assert np.array_equal(read(png(grey, bits, 0)), repeated(grey * 255 // ((1 << bits) - 1)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(read, bits):
    indices = GREY % (1 << bits)
    palette = np.random.default_rng(1).integers(0, 256, (1 << bits, 3), np.uint8)
    data = png(indices, bits, 3, png_chunk(b"PLTE", palette.tobytes()))
    assert np.array_equal(read(data), palette[indices[..., 0]])


def test_greys_of_16_bits_keep_their_upper_8(read):
    grey = np.arange(1 << 16).reshape(256, 256, 1)
    pixels = read(png(grey, 16, 0))
    assert np.array_equal(pixels, repeated(grey >> 8))
    assert np.abs(pixels - grey / 257).max() < 1


@pytest.mark.parametrize(("colours", "num_samples"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_keep_their_upper_8(read, colours, num_samples):
    samples = np.random.default_rng(1).integers(0, 1 << 16, (12, 18, num_samples))
    if num_samples != 3:
        samples[..., -1] = 65_535  # opaque
    expected = samples[..., :3] if num_samples > 2 else repeated(samples[..., :1])
    assert np.array_equal(read(png(samples, 16, colours)), expected >> 8)


def on_white(colours, alpha):
    """`colours` (H, W, 3), `alpha` (H, W, 1), both 0 to 255."""
    return (colours.astype(float) * alpha + 255.0 * (255 - alpha.astype(float))) / 255


@pytest.mark.parametrize(("colours", "num_samples"), [(4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_lies_on_white(read, colours, num_samples, bits):
    samples = np.random.default_rng(1).integers(0, 1 << bits, (12, 18, num_samples))
    samples[0, 0, -1], samples[1, 0, -1] = 0, (1 << bits) - 1
    eight = samples >> bits - 8
    expected = on_white(eight[..., :3] if num_samples > 2 else repeated(eight[..., :1]), eight[..., -1:])
    pixels = read(png(samples, bits, colours))
    assert np.abs(pixels - expected).max() <= 1
    assert (pixels[0, 0] == 255).all()


@pytest.mark.parametrize("shorter", [None, 5])
def test_alpha_in_webp(read, shorter):
    image = Image.new("RGBA", (18, 12), (255, 0, 0, 51))
    image.paste((0, 0, 0, 0), (0, 0, 9, 12))  # black, but not to be seen
    pixels = read(encoded(image, "WEBP", lossless=True, exact=True), shorter=shorter)
    height, width = pixels.shape[:2]
    assert (pixels[:, : width // 2 - 1] == 255).all()
    assert far(pixels[:, width // 2 + 1 :], np.array([255, 204, 204])) <= 1
    assert height == (shorter or 12)


def test_palettes_with_alpha(read):
    indices = GREY % 4
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 0], [9, 8, 7]], np.uint8)
    for alphas in (b"\xff\0", b"\x80\xff\0"):  # an entry for each, or opaque
        data = png(indices, 8, 3, png_chunk(b"PLTE", palette.tobytes()), png_chunk(b"tRNS", alphas))
        alpha = np.frombuffer(alphas.ljust(4, b"\xff"), np.uint8)[indices]
        assert np.abs(read(data) - on_white(palette[indices[..., 0]], alpha)).max() <= 1


def test_a_transparent_colour_of_a_gif(read):
    few = Image.fromarray(SMOOTH).quantize(8)
    pixels = read(encoded(few, "GIF", transparency=3))
    expected = np.asarray(few.convert("RGB")).copy()
    expected[np.asarray(few) == 3] = 255
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_a_png(read, bits):
    grey = GREY * 257 % (1 << bits)
    grey[3, 4] = key = 1
    expected = repeated(grey >> 8 if bits == 16 else grey * 255 // ((1 << bits) - 1))
    expected[grey[..., 0] == key] = 255
    assert np.array_equal(read(png(grey, bits, 0, png_chunk(b"tRNS", struct.pack(">H", key)))), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_of_a_png(read, bits):
    samples = NOISE.astype(int) << bits - 8
    samples[5, 6] = samples[7, 8]
    expected = NOISE.copy()
    expected[7, 8] = expected[5, 6] = 255
    assert np.array_equal(read(png(samples, bits, 2, png_chunk(b"tRNS", struct.pack(">HHH", *samples[7, 8])))), expected)


@pytest.mark.parametrize(
    ("cmyk", "rgb"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 128, 255, 51), (204, 102, 0)),
    ],
)
def test_cmyk(read, cmyk, rgb):
    assert far(read(encoded(Image.new("CMYK", (16, 16), cmyk), "JPEG", quality=100)), np.array(rgb)) <= 3


def test_cmyk_whose_colours_are_luma_and_chroma(read):
    """Adobe's transform 2, YCCK: of what is stored inverted, the first three are a grey of 60, and black is 80 %."""
    data = encoded(Image.new("CMYK", (16, 16), (195, 127, 127, 51)), "JPEG", quality=100)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    pixels = read(data[:at] + b"\2" + data[at + 1 :])
    assert far(pixels, np.array([156, 156, 156])) <= 3


def test_bmp_from_top_to_bottom(read):
    rows = np.pad(NOISE[..., ::-1].reshape(12, -1), ((0, 0), (0, 2))).tobytes()
    assert np.array_equal(read(bmp(18, -12, 24, rows)), NOISE)
    assert np.array_equal(read(bmp(18, 12, 24, rows)), NOISE[::-1])


def test_bmp_of_an_old_kind(read):
    rows = np.pad(NOISE[::-1, :, ::-1].reshape(12, -1), ((0, 0), (0, 2))).tobytes()
    header = struct.pack("<IHHHH", 12, 18, 12, 1, 24)
    assert np.array_equal(read(b"BM" + struct.pack("<III", 26 + len(rows), 0, 26) + header + rows), NOISE)


def test_bmp_whose_alpha_was_never_written(read):
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = np.dstack([NOISE[..., ::-1], np.zeros((12, 18), np.uint8)])
    assert np.array_equal(read(bmp(18, -12, 32, rows.tobytes(), compression=3, masks=masks)), NOISE)
    rows[..., 3] = 255
    rows[2, 3, 3] = 0
    pixels = read(bmp(18, -12, 32, rows.tobytes(), compression=3, masks=masks))
    assert np.array_equal((pixels != NOISE).any(axis=2), rows[..., 3] == 0)
    assert (pixels[2, 3] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_the_first_frame_of_an_animation(read, tmp_path, kind):
    frames = [Image.new("RGB", (18, 12), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (pixels == (255, 0, 0)).all()
    assert probe_image(tmp_path / "a.image") == ImageInfo(18, 12, kind)


def test_a_gif_frame_beyond_its_screen(read, tmp_path):
    data = encoded(NOISE, "GIF")
    assert np.array_equal(read(data[:6] + bytes(4) + data[10:]), read(data))
    assert probe_image(tmp_path / "a.image") == ImageInfo(18, 12, "GIF")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("shorter", [None, 1, 4])
def test_one_pixel(read, tmp_path, kind, shorter):
    pixels = read(encoded(Image.new("RGB", (1, 1), (255, 255, 255)), kind), shorter=shorter)
    assert far(pixels, np.full((1, 1, 3), 255)) == 0
    assert pixels.shape == (1, 1, 3)
    assert probe_image(tmp_path / "a.image") == ImageInfo(1, 1, kind)


JPEG = encoded(NOISE, "JPEG")

PNG = png(NOISE, 8, 2)

WEBP = encoded(NOISE, "WEBP", lossless=True)

GIF = encoded(Image.new("L", (18, 12)), "GIF")

BMP = bmp(18, 12, 24, bytes(56 * 12))
