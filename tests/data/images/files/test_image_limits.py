import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import image_files
import numpy as np
import pytest
from audio_files import ANEW
from image_files import (
    LARGE,
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
from mutated_files import MOST_BYTES, check_report
from PIL import Image

from omnictl.data.images.files import decoder
from omnictl.data.images.files.decoder import probe_image, read_image

JPEG = encoded(NOISE, "JPEG")

TABLES, FRAME, SCAN = (JPEG.index(mark) for mark in (b"\xff\xdb", b"\xff\xc0", b"\xff\xda"))

PNG = png(NOISE, 8, 2)

WEBP = encoded(NOISE, "WEBP", lossless=True)

GIF = encoded(Image.new("L", (18, 12)), "GIF")

GIF_FRAME = GIF.index(b",\0\0\0\0")


@pytest.fixture
def no_decoding(monkeypatch):
    def opened(*args, **options):
        raise AssertionError("decoded")

    monkeypatch.setattr(decoder.Image, "open", opened)


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
    assert fix == "make it smaller (magick a.image -resize 2048x2048 a.new.png), or take it out of the data"


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
    assert fix == "make it smaller (magick a.image -resize 2048x2048 a.new.png), or take it out of the data"
    assert probe_image(tmp_path / "a.image").width == width


def test_what_is_decoded_at_reduced_size_takes_less(read):
    """49 megapixels, whose scans say nothing: grey."""
    assert read(sized("jpg", 7_000, 7_000), shorter=64).shape == (64, 64, 3)


def read_in_processes(folder, count, names):
    """What became of mutated files of a format, or of a large one, each name in a process of its own; and what that said."""
    paths = [str(Path(decoder.__file__).parents[4]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-W", "error", "-X", "faulthandler", image_files.__file__, str(count), str(folder), *names]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module", params=[60, pytest.param(2_000, marks=pytest.mark.faults)])
def reports(tmp_path_factory, request):
    return *read_in_processes(tmp_path_factory.mktemp("broken"), request.param, SUFFIXES), request.param


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mutated_files_are_read_or_refused(reports, suffix):
    report, complaints, count = reports[0][suffix], *reports[1:]
    check_report(report, complaints, count, read=count / 40, refusals=min(12, count / 50))


@pytest.mark.faults
@pytest.mark.parametrize("name", LARGE)
def test_the_largest_images_take_no_more_memory_than_they_may(name, tmp_path):
    reports, complaints = read_in_processes(tmp_path, 0, [name])
    assert reports[name]["exit_code"] == 0, complaints
    assert reports[name]["peak_bytes"] < MOST_BYTES


def test_torch_is_not_needed():
    paths = [str(Path(decoder.__file__).parents[4]), *filter(None, [os.environ.get("PYTHONPATH")])]
    program = "import omnictl.data.images.files, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, check=True)
