import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from audio_files import ANEW
from image_files import (
    NOISE,
    SUFFIXES,
    bmp,
    encoded,
    originals,
    png,
    png_chunk,
    refused,
    webp,
)
from PIL import Image

from omnictl.data.images.files import decoder
from omnictl.data.images.files import webp as webp_file
from omnictl.data.images.files.decoder import probe_image, read_image
from omnictl.errors import DataError

GREY = NOISE[..., :1].astype(int)
"""(H, W, 1)"""


def waves(width, height):
    """(H, W, 3): slow ones, which survive."""
    y, x = np.mgrid[:height, :width] + 0.5
    levels = [np.sin(x / width * 9 + y / height * 5 + shift) for shift in (0, 2, 4)]
    return (127.5 + 100 * np.stack(levels, axis=2)).astype(np.uint8)


@pytest.mark.parametrize("name", ["image", "A.JPG", "a.txt", os.fsdecode(b"caf\xe9.gif")])
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
    for path, found in ((tmp_path, "a folder"), (tmp_path / "pipe.png", "a pipe or a device")):
        error = refused(path)
        assert error.message == f"{path} is {found}, not an image"
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
    assert error.message == f"{path} takes 1,024 MiB; at most 128 MiB were expected of an image"
    assert error.fix == "make it smaller (magick a.bmp -resize 2048x2048 a.new.png), or take it out of the data"


CONVERT = "convert it (magick a.image a.png)"


@pytest.mark.parametrize(
    ("content", "shown", "fix"),
    [
        (b"<!DOCTYPE html>\n", r"b'<!DOCTYPE html>\n'", CONVERT),
        (b"I am no image", "b'I am no image'", "download the image itself (`git lfs pull` where it is a Git LFS pointer)"),
        (b"II*\0\x08\0\0\0" + bytes(99), r"b'II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00'", CONVERT),
        (b"\0\0\0\x18ftypheic" + bytes(99), r"b'\x00\x00\x00\x18ftypheic\x00\x00\x00\x00'", CONVERT),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            "b'%!PS-Adobe-3.0 E'",
            "download the image itself (`git lfs pull` where it is a Git LFS pointer)",
        ),
        (b"\xff\xd8", r"b'\xff\xd8'", CONVERT),
        (b"G", "b'G'", "download the image itself (`git lfs pull` where it is a Git LFS pointer)"),
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

    monkeypatch.setattr(decoder.Image, "open", broken)
    assert refuse(PNG) == ("is broken: so", ANEW)


@pytest.mark.parametrize("error", [EOFError(), ZeroDivisionError()])
def test_what_pillow_raises_without_a_word(refuse, monkeypatch, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(decoder.Image, "open", broken)
    assert refuse(PNG) == (f"is broken: {type(error).__name__}", ANEW)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_the_file(read, monkeypatch, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(decoder.Image, "open", broken)
    with pytest.raises(error):
        read(PNG)


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "LAB", "YCbCr", "PA", "La", "RGBa"])
def test_modes_that_no_image_should_have(refuse, monkeypatch, mode):
    monkeypatch.setattr(decoder, "_load", lambda *rest: Image.new(mode, (18, 12)))
    assert refuse(PNG) == (f"has pixels of mode {mode}; grey, palette, RGB or CMYK were expected", CONVERT)


def test_a_header_that_pillow_reads_differently(refuse, monkeypatch):
    monkeypatch.setattr(webp_file, "_size", lambda *rest: (18, 13))
    assert refuse(WEBP) == ("is broken: its header says 18 × 13 pixels, its image has 18 × 12", ANEW)
