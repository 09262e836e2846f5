import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_files import (
    NOISE,
    encoded,
    exif,
    jpeg_segment,
    png,
    png_chunk,
    webp,
)
from PIL import Image, ImageOps

from omnictl.data.images.files.decoder import ImageInfo, probe_image, read_image

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
    assert probe_image(tmp_path / "a.image") == ImageInfo(width, height, kind)


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


JPEG = encoded(NOISE, "JPEG")

PNG = png(NOISE, 8, 2)

WEBP = encoded(NOISE, "WEBP", lossless=True)
