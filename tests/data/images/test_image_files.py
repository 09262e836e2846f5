import errno
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import image_files
import numpy as np
import pytest
from audio_files import ANEW, MOST_BYTES
from image_files import (
    LARGE,
    NOISE,
    SMOOTH,
    SUFFIXES,
    bmp,
    encoded,
    exif,
    jpeg_segment,
    originals,
    png,
    png_chunk,
    refused,
    webp,
)
from PIL import Image, ImageOps

from omnictl.data.images import containers as image_containers
from omnictl.data.images import files as image_media
from omnictl.data.images.files import ImageInfo, probe_image, read_image
from omnictl.errors import DataError

GREY = NOISE[..., :1].astype(int)
"""(H, W, 1)"""


@pytest.fixture
def read(tmp_path):
    """Reads a file of these bytes."""

    def call(data, **options):
        path = tmp_path / "a.picture"
        path.write_bytes(data)
        return read_image(path, **options)

    return call


@pytest.fixture
def refuse(tmp_path):
    """What is said of a file of these bytes."""

    def call(data, **options):
        path = tmp_path / "a.picture"
        path.write_bytes(data)
        error = refused(path, **options)
        return error.message.removeprefix(f"{path} "), error.fix

    return call


def far(one, other):
    return int(np.abs(one.astype(int) - other).max())


def repeated(grey):
    """(H, W, 1) -> (H, W, 3)"""
    return np.repeat(grey, 3, axis=2)


# Values


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
    assert probe_image(tmp_path / "a.picture") == ImageInfo(18, 12, kind)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {"quality": 95})])
def test_formats_with_loss_are_close(read, tmp_path, kind, options):
    assert far(read(encoded(SMOOTH, kind, **options)), SMOOTH) < 24
    assert probe_image(tmp_path / "a.picture") == ImageInfo(18, 12, kind)


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
    assert probe_image(tmp_path / "a.picture") == ImageInfo(18, 12, kind)


def test_a_gif_frame_beyond_its_screen(read, tmp_path):
    data = encoded(NOISE, "GIF")
    assert np.array_equal(read(data[:6] + bytes(4) + data[10:]), read(data))
    assert probe_image(tmp_path / "a.picture") == ImageInfo(18, 12, "GIF")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("shorter", [None, 1, 4])
def test_one_pixel(read, tmp_path, kind, shorter):
    pixels = read(encoded(Image.new("RGB", (1, 1), (255, 255, 255)), kind), shorter=shorter)
    assert far(pixels, np.full((1, 1, 3), 255)) == 0
    assert pixels.shape == (1, 1, 3)
    assert probe_image(tmp_path / "a.picture") == ImageInfo(1, 1, kind)


# Notes


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {})])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientations(read, tmp_path, orientation, kind, options, order):
    data = encoded(NOISE, kind, exif=exif(orientation, order=order), **options)
    stored = NOISE if kind != "JPEG" else read(encoded(NOISE, kind))
    pixels = read(data)
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, TURNS[orientation](stored))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
    width, height = (12, 18) if orientation > 4 else (18, 12)
    assert probe_image(tmp_path / "a.picture") == ImageInfo(width, height, kind)


def test_the_result_is_turned_after_it_was_made_smaller(read):
    data = encoded(NOISE, "PNG", exif=exif(6))
    assert np.array_equal(read(data, shorter=5), TURNS[6](read(encoded(NOISE, "PNG"), shorter=5)))


def test_exif_behind_the_pixels(read):
    data = encoded(NOISE, "PNG")
    note = png_chunk(b"eXIf", exif(8)[6:])
    assert np.array_equal(read(data[:-12] + note + data[-12:]), TURNS[8](NOISE))


BROKEN_EXIF = [
    b"",
    b"Exif\0\0",
    b"Exif\0\0II*\0",
    b"Exif\0\0" + bytes(40),
    b"\xff" * 64,
    exif(6)[:30],
    exif(6).replace(b"II*", b"IX*"),
    exif(6)[:10] + b"\xff\xff\xff\xff" + exif(6)[14:],
    exif(6)[:10] + b"\0\0\0\0" + exif(6)[14:],
    exif(6)[:14] + b"\xff\xff" + b"\xff" * 24,
    exif(6, kind=7),
    exif(0),
    exif(9),
    exif(255),
    exif(65_535),
]


@pytest.mark.parametrize("notes", BROKEN_EXIF)
def test_corrupt_exif_is_ignored(read, notes):
    jpeg, lossless = encoded(NOISE, "JPEG"), encoded(NOISE, "WEBP", lossless=True)
    assert np.array_equal(read(jpeg[:2] + jpeg_segment(0xE1, b"Exif\0\0" + notes[6:]) + jpeg[2:]), read(jpeg))
    assert np.array_equal(read(png(NOISE, 8, 2, png_chunk(b"eXIf", notes))), NOISE)
    extended = webp((b"VP8X", struct.pack("<IHBHB", 8, 17, 0, 11, 0)), (lossless[12:16], lossless[20:]), (b"EXIF", notes or b"\0"))
    assert np.array_equal(read(extended), NOISE)


def test_exif_with_a_wrong_checksum_is_ignored(read):
    note = png_chunk(b"eXIf", exif(6)[6:])
    assert np.array_equal(read(png(NOISE, 8, 2, note[:-1] + bytes([note[-1] ^ 1]))), NOISE)


@pytest.mark.parametrize("orientation", [1, 6])
def test_corrupt_exif_warns_in_no_thread(tmp_path, orientation):
    """Pillow would warn, which these tests raise as an error."""
    data = encoded(NOISE, "JPEG")
    notes = exif(orientation)[:-4] + b"\xff\xff\xff\xff"  # another list of notes, far behind the end
    notes = notes[:18] + b"\2\0\xff\0\0\0" + notes[24:]  # and one that is too long
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + jpeg_segment(0xE1, notes) + data[2:])
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(read_image, [path] * 64):
            assert pixels.shape == ((18, 12, 3) if orientation == 6 else (12, 18, 3))


@pytest.mark.parametrize(
    "notes",
    [
        [png_chunk(b"iCCP", b"name\0\7nonsense")],
        [png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(50_000_000)))],
        [png_chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(5_000_000)))] * 20,
        [png_chunk(b"acTL", bytes(3))],
        [png_chunk(b"acTL", bytes(8))],
        [png_chunk(b"pHYs", b"")],
    ],
)
def test_notes_of_a_png_are_not_read(read, notes):
    assert np.array_equal(read(png(NOISE, 8, 2, *notes)), NOISE)


@pytest.mark.parametrize("kind", [0xE0, 0xE2, 0xE5, 0xED, 0xFE])
@pytest.mark.parametrize("body", [b"", b"MPF\0" + b"\xff" * 30, b"ICC_PROFILE\0", b"Photoshop 3.0\x008BIM\1", b"JFIF\0\1"])
def test_notes_of_a_jpeg_are_not_read(read, kind, body):
    data = encoded(NOISE, "JPEG")
    assert np.array_equal(read(data[:20] + jpeg_segment(kind, body) + data[20:]), read(data))


def test_what_follows_a_jpeg(read):
    data = encoded(NOISE, "JPEG")
    assert np.array_equal(read(data + data + bytes(100)), read(data))


def test_padding_within_a_jpeg(read):
    data = encoded(NOISE, "JPEG")
    assert np.array_equal(read(data[:20] + b"\xff\xff\xff\0\0" + data[20:]), read(data))


# Smaller


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
def test_smaller_pictures_show_the_same(read, width, height, shorter, kind, tolerance):
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
    flat = image_media._flat

    def seen(band, *rest):
        sizes.append(band.width)
        return flat(band, *rest)

    monkeypatch.setattr(image_media, "_flat", seen)
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
        monkeypatch.setattr(image_media, "_BAND_PIXELS", band_pixels)
        assert np.array_equal(read(data, shorter=shorter), whole)


# Errors


@pytest.mark.parametrize("name", ["picture", "A.JPG", "a.txt", os.fsdecode(b"caf\xe9.gif")])
def test_the_content_decides_not_the_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(NOISE, "PNG"))
    assert probe_image(path).format == "PNG"
    assert np.array_equal(read_image(path), NOISE)


def test_missing_file(tmp_path):
    error = refused(tmp_path / "none.png")
    assert error.message == f"no such file: {tmp_path / 'none.png'}"
    assert error.fix == "give the path of a JPEG, PNG, WebP, GIF or BMP file"


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, found in ((tmp_path, "a folder"), (tmp_path / "pipe.png", "no regular file")):
        error = refused(path)
        assert error.message == f"{path} is {found}, not a picture"
        assert error.fix == "give the path of a JPEG, PNG, WebP, GIF or BMP file"


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(NOISE, "PNG"))

    def denied(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    error = refused(path)
    assert error.message == f"cannot read {path}: Permission denied"
    assert error.fix == "make it readable for this user"


def test_empty_file(refuse):
    assert refuse(b"") == ("is empty: 0 bytes", ANEW)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM")
    os.truncate(path, 1 << 30)  # a hole: it takes no room on the disk
    error = refused(path)
    assert error.message == f"{path} takes 1,024 MiB; at most 128 MiB were expected of a picture"
    assert error.fix == "make it smaller (magick a.bmp -resize 2048x2048 a.new.png), or take it out of the data"


CONVERT = "convert it (magick a.picture a.png)"


@pytest.mark.parametrize(
    ("content", "shown", "fix"),
    [
        (b"<!DOCTYPE html>\n", r"b'<!DOCTYPE html>\n'", CONVERT),
        (b"I am no picture", "b'I am no picture'", "download the picture itself (`git lfs pull` where it is a Git LFS pointer)"),
        (b"II*\0\x08\0\0\0" + bytes(99), r"b'II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00'", CONVERT),
        (b"\0\0\0\x18ftypheic" + bytes(99), r"b'\x00\x00\x00\x18ftypheic\x00\x00\x00\x00'", CONVERT),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            "b'%!PS-Adobe-3.0 E'",
            "download the picture itself (`git lfs pull` where it is a Git LFS pointer)",
        ),
        (b"\xff\xd8", r"b'\xff\xd8'", CONVERT),
        (b"G", "b'G'", "download the picture itself (`git lfs pull` where it is a Git LFS pointer)"),
        (b"RIFF\x24\0\0\0WAVEfmt ", r"b'RIFF$\x00\x00\x00WAVEfmt '", CONVERT),
        (bytes(100), "b'" + r"\x00" * 16 + "'", CONVERT),
    ],
)
def test_other_formats(refuse, content, shown, fix):
    assert refuse(content) == (f"is not a JPEG, PNG, WebP, GIF or BMP file: it begins with {shown}", fix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_is_refused_wherever_it_is_cut(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    for whole in originals(suffix):
        is_animation = suffix == "gif" and whole == originals(suffix)[-1]  # its first frame may be whole
        for length in {*range(0, len(whole), 11), *range(len(whole) - 16, len(whole))}:
            path.write_bytes(whole[:length])
            try:
                pixels = read_image(path)
            except DataError:
                continue
            assert is_animation
            path.write_bytes(whole)
            assert np.array_equal(pixels, read_image(path))


def test_a_changed_bit_of_a_png_is_noticed_or_changes_no_pixel(tmp_path):
    path = tmp_path / "a.png"
    whole = originals("png")[2]
    path.write_bytes(whole)
    pixels = read_image(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            assert np.array_equal(read_image(path), pixels), at
        except DataError:
            continue


def test_a_jpeg_that_was_given_a_new_end(refuse, read):
    """Its rest is grey, which libjpeg says, but Pillow does not. Only what is far too short is noticed."""
    data = encoded(waves(640, 480), "JPEG")
    at = data.index(b"\xff\xda") + 14
    assert refuse(data[: at + 40] + b"\xff\xd9") == ("is cut off: 56 bytes of scans are too few for 640 × 480 pixels", ANEW)
    assert read(data[: len(data) // 2] + b"\xff\xd9").shape == (480, 640, 3)


JPEG = encoded(NOISE, "JPEG")
TABLES, FRAME, SCAN = (JPEG.index(mark) for mark in (b"\xff\xdb", b"\xff\xc0", b"\xff\xda"))
NO_SIZES = bytes(0 if at in (11, 14, 17) else byte for at, byte in enumerate(JPEG[FRAME:SCAN]))
SEGMENT = "is cut off or broken: JPEG segment 0xe5 should end at byte"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (JPEG[:-2], "is cut off: a JPEG without the mark at its end"),
        (JPEG[:-1], "is cut off: a JPEG without the mark at its end"),
        (JPEG[:20] + b"\xff\xe5\xff\xff" + JPEG[20:], f"{SEGMENT} 65,557 of {len(JPEG) + 4}"),
        (JPEG[:20] + b"\xff\xe5\0\1" + JPEG[20:], f"{SEGMENT} 23 of {len(JPEG) + 4}"),
        (JPEG[:FRAME] + JPEG[FRAME : FRAME + 19] + JPEG[FRAME:], "is broken: a JPEG with two frames"),
        (JPEG[:FRAME] + JPEG[FRAME + 19 :], "is broken: a JPEG that does not say how large it is"),
        (JPEG[:FRAME] + b"\xff\xc0\0\5\x08\0\1" + JPEG[FRAME + 19 :], "is broken: a JPEG that does not say how large it is"),
        (JPEG[:FRAME] + NO_SIZES + JPEG[SCAN:], "is broken: a JPEG with components of no size"),
        (JPEG[:SCAN] + b"\xff\xd9", "is broken: a JPEG of 0 scans; between 1 and 100 were expected"),
        (JPEG[:-2] + JPEG[SCAN:-2] * 100 + JPEG[-2:], "is broken: a JPEG of 101 scans; between 1 and 100 were expected"),
        (JPEG[:20] + b"\xff\xe5\0\2" * 100_000 + JPEG[20:], "is broken: a JPEG of more than 100,000 segments"),
        (JPEG[:TABLES] + JPEG[FRAME:], "is broken: broken data stream when reading image file"),
    ],
)  # fmt: skip
def test_jpegs_that_do_not_add_up(refuse, data, found):
    assert refuse(data) == (found, ANEW)


def test_jpegs_of_12_bits(refuse):
    data = JPEG[: FRAME + 4] + b"\x0c" + JPEG[FRAME + 5 :]
    assert refuse(data) == ("is a JPEG with samples of 12 bits; 8 were expected", CONVERT)


PNG = png(NOISE, 8, 2)
END = png_chunk(b"IEND", b"")
SHORT, STRANGE = (
    PNG[:33] + png_chunk(b"IDAT", pixels) + END for pixels in (zlib.compress(bytes(600))[:-5], zlib.compress(b"\7" * 660))
)
PALETTE = png_chunk(b"PLTE", bytes(768))
MISFIT = "is broken: PNG chunk tRNS does not go with colour type"
UNKNOWN = "is broken: nothing is known of PNG chunk b'CgBI', without which it cannot be read"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (PNG[:8], "is cut off: a PNG chunk should end at byte 20 of 8"),
        (PNG[:-1], f"is cut off: a PNG chunk should end at byte {len(PNG)} of {len(PNG) - 1}"),
        (PNG[:-12], f"is cut off: a PNG chunk should end at byte {len(PNG)} of {len(PNG) - 12}"),
        (PNG[:50] + bytes([PNG[50] ^ 1]) + PNG[51:], "is broken: PNG chunk b'IDAT' does not have the checksum that follows it"),
        (PNG[:33] + b"\0\0\0\2tEXtxxsum?" + PNG[33:], "is broken: PNG chunk b'tEXt' does not have the checksum that follows it"),
        (PNG[:8] + png_chunk(b"CgBI", b"") + PNG[8:], UNKNOWN),
        (PNG[:8] + END, "is broken: a PNG does not begin with one header"),
        (PNG[:8] + png_chunk(b"IHDR", bytes(12)) + PNG[33:], "is broken: a PNG does not begin with one header"),
        (PNG[:33] + PNG[8:], "is broken: a PNG does not begin with one header"),
        (PNG[:33] + png_chunk(b"tEXt", b"") * 100_000 + PNG[33:], "is broken: a PNG of more than 100,000 chunks"),
        (PNG[:33] + END, "is broken: cannot load this image"),
        (PNG[:33] + png_chunk(b"IDAT", b"") + END, "is broken: image file is truncated (0 bytes not processed)"),
        (SHORT, "is broken: image file is truncated (0 bytes not processed)"),
        (STRANGE, "is broken: unrecognized data stream contents when reading image file"),
        (png(NOISE, 8, 7), "is broken: Pillow can make nothing of this PNG"),
        (png(GREY, 8, 0, png_chunk(b"tRNS", bytes(6))), f"{MISFIT} 0 of 8 bits"),
        (png(NOISE, 8, 2, png_chunk(b"tRNS", bytes(2))), f"{MISFIT} 2 of 8 bits"),
        (png(GREY, 8, 3, PALETTE, png_chunk(b"tRNS", bytes(257))), f"{MISFIT} 3 of 8 bits"),
        (png(GREY, 8, 3, png_chunk(b"PLTE", bytes(900))), "is broken: invalid palette size"),
    ],
)  # fmt: skip
def test_pngs_that_do_not_add_up(refuse, data, found):
    assert refuse(data) == (found, ANEW)


WEBP = encoded(NOISE, "WEBP", lossless=True)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (WEBP[:-1], f"is cut off: a WebP that should take {len(WEBP)} bytes, {len(WEBP) - 1} are there"),
        (webp((b"VP8L", WEBP[20:600])), "is broken: failed to read next frame"),
        (webp((b"VP8L", WEBP[20:24])), "is 0 × 0 pixels large; at least 1 × 1 was expected"),
        (webp((b"VP8 ", WEBP[20:])), "is 0 × 0 pixels large; at least 1 × 1 was expected"),
        (webp((b"EXIF", bytes(8))), "is 0 × 0 pixels large; at least 1 × 1 was expected"),
        (webp(), "is 0 × 0 pixels large; at least 1 × 1 was expected"),
        (webp((b"VP8X", struct.pack("<IHBHB", 0, 17, 0, 11, 0))), "is broken: could not create decoder object"),
        (WEBP[:16] + b"\0\x10" + WEBP[18:], f"is broken: WebP chunk b'VP8L' should end at byte 4,116 of {len(WEBP)}"),
        (webp((b"VP8L", WEBP[20:]), *[(b"note", b"")] * 100_000), "is broken: a WebP of more than 100,000 chunks"),
    ],
)  # fmt: skip
def test_webps_that_do_not_add_up(refuse, data, found):
    assert refuse(data) == (found, ANEW)


GIF = encoded(Image.new("L", (18, 12)), "GIF")
GIF_FRAME = GIF.index(b",\0\0\0\0")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (GIF[:-1], "is cut off: a GIF that ends with a frame"),
        (GIF[:-2], f"is cut off: a block of a GIF should begin at byte {len(GIF) - 2} of {len(GIF) - 2}"),
        (GIF[:GIF_FRAME], "is cut off or broken: a GIF without a frame"),
        (GIF[:GIF_FRAME] + b";", "is cut off or broken: a GIF without a frame"),
        (GIF[:GIF_FRAME] + bytes(200_000) + GIF[GIF_FRAME:], "is broken: no frame among the first 100,000 blocks of a GIF"),
        (GIF[:-2] + b"\1\0" * 1_000_001 + b"\0;", "is broken: a GIF's frame of more than 1,000,000 blocks"),
        (GIF[: GIF_FRAME + 11] + b"\0;", "is broken: image file is truncated (1 bytes not processed)"),
        (GIF[: GIF_FRAME + 10] + b"\x0d" + GIF[GIF_FRAME + 11 :], "is broken: codec configuration error when reading image file"),
    ],
)
def test_gifs_that_do_not_add_up(refuse, data, found):
    assert refuse(data) == (found, ANEW)


BMP = bmp(18, 12, 24, bytes(56 * 12))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (BMP[:-1], f"is cut off: a BMP whose pixels should end at byte {len(BMP)} of {len(BMP) - 1}"),
        (BMP[:40], "is cut off or broken: a BMP header of 40 bytes"),
        (BMP[:14] + b"\x29" + BMP[15:], "is cut off or broken: a BMP header of 41 bytes"),
        (bmp(18, 12, 23, bytes(56 * 12)), "is broken: Unsupported BMP pixel depth (23)"),
    ],
)
def test_bmps_that_do_not_add_up(refuse, data, found):
    assert refuse(data) == (found, ANEW)


@pytest.mark.parametrize("compression", [1, 2, 4, 99])
def test_bmps_with_compressed_pixels(refuse, compression):
    """Run lengths, Pillow decodes in Python: a short file could take minutes."""
    found = f"is a BMP with compressed pixels (method {compression}); plain ones were expected"
    assert refuse(bmp(18, 12, 8, bytes(500), compression=compression)) == (found, CONVERT)


ERRORS = (OSError, SyntaxError, struct.error, IndexError, zlib.error, TypeError, OverflowError, Image.DecompressionBombError)


@pytest.mark.parametrize("error", [error("so") for error in ERRORS])
def test_whatever_pillow_raises_is_named(refuse, monkeypatch, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(image_media.Image, "open", broken)
    assert refuse(PNG) == ("is broken: so", ANEW)


@pytest.mark.parametrize("error", [EOFError(), ZeroDivisionError()])
def test_what_pillow_raises_without_a_word(refuse, monkeypatch, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(image_media.Image, "open", broken)
    assert refuse(PNG) == (f"is broken: {type(error).__name__}", ANEW)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_the_file(read, monkeypatch, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(image_media.Image, "open", broken)
    with pytest.raises(error):
        read(PNG)


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "LAB", "YCbCr", "PA", "La", "RGBa"])
def test_modes_that_no_picture_should_have(refuse, monkeypatch, mode):
    monkeypatch.setattr(image_media, "_load", lambda *rest: Image.new(mode, (18, 12)))
    assert refuse(PNG) == (f"has pixels of mode {mode}; grey, palette, RGB or CMYK were expected", CONVERT)


def test_a_header_that_pillow_reads_differently(refuse, monkeypatch):
    monkeypatch.setattr(image_containers, "_webp_size", lambda *rest: (18, 13))
    assert refuse(WEBP) == ("is broken: its header says 18 × 13 pixels, its picture has 18 × 12", ANEW)


# Bounds


@pytest.fixture
def no_decoding(monkeypatch):
    def opened(*args, **options):
        raise AssertionError("decoded")

    monkeypatch.setattr(image_media.Image, "open", opened)


def sized(kind, width, height):
    """A small file that claims to be large."""
    if kind == "png":
        return PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + PNG[33:]
    if kind == "gif":
        return GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]
    if kind == "gif frame":
        return GIF[: GIF_FRAME + 5] + struct.pack("<HH", width, height) + GIF[GIF_FRAME + 9 :]
    if kind == "jpg":
        data = JPEG[: FRAME + 5] + struct.pack(">HH", height, width) + JPEG[FRAME + 9 : -2]
        return data + bytes(-(-width * height * 3 // 512)) + JPEG[-2:]  # as long as it might be
    if kind == "webp lossless":
        return webp((b"VP8L", b"\x2f" + struct.pack("<I", height - 1 << 14 | width - 1) + WEBP[25:]))
    if kind == "webp lossy":
        return webp((b"VP8 ", b"\x10\0\0\x9d\1\x2a" + struct.pack("<HH", width, height) + bytes(20)))
    flags = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp((b"VP8X", flags), (b"ANIM", bytes(6)), (b"ANMF", bytes(16) + WEBP[12:]))


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        ("png", 60_000, 60_000),
        ("png", 8_000, 6_251),
        ("png", 2**31 - 1, 2**31 - 1),
        ("png", 32_769, 1),
        ("gif", 65_535, 65_535),
        ("gif", 18, 32_769),
        ("gif frame", 60_000, 60_000),
        ("jpg", 1, 65_535),
        ("jpg", 8_000, 6_251),
        ("webp lossless", 16_384, 16_384),
        ("webp lossy", 16_383, 16_383),
        ("webp", 1 << 24, 1 << 24),
        ("webp", 60_000, 60_000),
    ],
)
def test_bombs(refuse, no_decoding, kind, width, height):
    found = f"is {width:,} × {height:,} pixels large; at most 32,768 a side and 50,000,000 in all were expected"
    message, fix = refuse(sized(kind, width, height))
    assert message == found
    assert fix == "make it smaller (magick a.picture -resize 2048x2048 a.new.png), or take it out of the data"


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (-60_000, 60_000), (1, -(2**31))])
def test_bombs_of_bmps_are_too_short(refuse, no_decoding, width, height):
    assert refuse(bmp(width, height, 24, bytes(100)))[1] == ANEW


@pytest.mark.parametrize("kind", ["png", "gif", "gif frame", "jpg", "webp lossy"])
@pytest.mark.parametrize(("width", "height"), [(0, 12), (18, 0), (0, 0)])
def test_no_pixels(refuse, no_decoding, kind, width, height):
    data = sized(kind, width, height)
    if kind == "gif":  # the screen alone may have none
        data = data[: GIF_FRAME + 5] + struct.pack("<HH", width, height) + data[GIF_FRAME + 9 :]
    if kind == "gif frame":
        data = data[:6] + bytes(4) + data[10:]
    assert refuse(data) == (f"is {width} × {height} pixels large; at least 1 × 1 was expected", ANEW)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_caller_sets_the_most(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(originals(suffix)[0])
    assert read_image(path, max_pixels=216).size == 648
    message = f"{path} is 18 × 12 pixels large; at most 32,768 a side and 215 in all were expected"
    assert refused(path, max_pixels=215).message == message


def test_the_bound_of_pillow_holds_too_and_does_not_warn(refuse, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert refuse(PNG)[0] == "is 18 × 12 pixels large; at most 32,768 a side and 200 in all were expected"


def test_without_a_bound_of_pillow(read, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert np.array_equal(read(PNG), NOISE)


@pytest.mark.parametrize(
    ("kind", "width", "height", "mebibytes"),
    [("png", 7_000, 7_000, 335), ("jpg", 7_000, 7_000, 335), ("gif", 7_000, 7_000, 335), ("webp", 7_000, 7_000, 895)],
)
def test_what_would_take_too_much_memory(refuse, no_decoding, tmp_path, kind, width, height, mebibytes):
    message, fix = refuse(sized(kind, width, height))
    assert message == f"would take {mebibytes} MiB to decode; at most 256 MiB were expected"
    assert fix == "make it smaller (magick a.picture -resize 2048x2048 a.new.png), or take it out of the data"
    assert probe_image(tmp_path / "a.picture").width == width


def test_what_is_decoded_at_reduced_size_takes_less(read):
    """49 megapixels, whose scans say nothing: grey."""
    assert read(sized("jpg", 7_000, 7_000), shorter=64).shape == (64, 64, 3)


# Broken at random


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What became of 2,000 mutated files of every format, and of the largest, read in processes of their own."""
    paths = [str(Path(image_media.__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    folder = str(tmp_path_factory.mktemp("broken"))
    command = [sys.executable, "-W", "error", "-X", "faulthandler", image_files.__file__, "2000", folder]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mutated_files_are_read_or_refused(reports, suffix):
    report, complaints = reports[0][suffix], reports[1]
    assert report["exit_code"] == 0, complaints  # negative: a crash; the file that caused it is still in the folder
    assert report["failures"] == []
    assert report["files"] == 2_000
    assert report["read"] > 50
    assert len(report["refusals"]) > 12
    assert report["slowest_seconds"] < 2  # a few ms, for a GIF of many pixels some tenths: this guards against hanging
    assert report["peak_bytes"] < MOST_BYTES


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_pictures_take_no_more_memory_than_they_may(reports, name):
    report, complaints = reports[0][name], reports[1]
    assert report["exit_code"] == 0, complaints
    assert report["peak_bytes"] < MOST_BYTES


def test_torch_is_not_needed():
    paths = [str(Path(image_media.__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    program = "import omnictl.data.images.files, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, check=True)
