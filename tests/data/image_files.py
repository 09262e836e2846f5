"""Writes image files for tests, breaks them, and sees them refused.

As a program, `python image_files.py COUNT FOLDER` reads COUNT mutated files of every format, and the largest images that are
read, each in a process of its own: a crash in native code is seen as its exit code, and its memory can be limited. It prints the
exit codes and the reports as JSON.
"""

import io
import json
import multiprocessing
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from audio_files import complaint
from mutated_files import limit_memory, mutated, peak_bytes, read_broken
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from omnictl.errors import DataError

SUFFIXES = ("jpg", "png", "webp", "gif", "bmp")
NOISE = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
"""(H, W, 3)"""
SMOOTH = np.stack(np.broadcast_arrays(np.arange(18) * 14, 255 - np.arange(12)[:, None] * 20, 90), axis=2).astype(np.uint8)
"""The same size, but without sharp edges."""


def encoded(image: Image.Image | NDArray[np.uint8], kind: str, **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, *, order: str = "<", kind: int = 3) -> bytes:
    """With another note before it."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    notes = struct.pack(f"{order}HHII", 0x0100, 4, 1, 77) + struct.pack(f"{order}HHIHH", 0x0112, kind, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 2) + notes + bytes(4)


def jpeg_segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, 2 + len(body)) + body


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(rows: NDArray, bits: int, colours: int, *notes: bytes) -> bytes:
    """As its header says it. `rows`: (H, W, samples) of any whole numbers that fit in `bits`."""
    height, width, _ = rows.shape
    if bits < 8:
        planes = (rows.reshape(height, -1, 1) >> np.arange(bits - 1, -1, -1) & 1).reshape(height, -1)
        packed = np.packbits(planes.astype(np.uint8), axis=1)
    else:
        packed = rows.astype(f">u{bits // 8}").reshape(height, -1).view(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in packed)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(notes) + pixels + png_chunk(b"IEND", b"")


def with_checksums(data: bytes) -> bytes:
    """The PNG with true checksums, as far as it consists of chunks: so that what is broken reaches the decoder."""
    whole, at = data[:8], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        whole += png_chunk(data[at + 4 : at + 8], data[at + 8 : end])
        at = end + 4
    return whole + data[at:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def bmp(width: int, height: int, bits: int, rows: bytes, *, compression: int = 0, masks: tuple[int, ...] = ()) -> bytes:
    """With a header of 108 bytes if there are masks, else of 40."""
    header_bytes = 108 if masks else 40
    header = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    header += struct.pack(f"<{len(masks)}I", *masks)
    header = header.ljust(header_bytes, b"\0")
    return b"BM" + struct.pack("<III", 14 + len(header) + len(rows), 0, 14 + len(header)) + header + rows


def originals(suffix: str) -> list[bytes]:
    """Small files of every kind that a format knows."""
    noise, smooth = Image.fromarray(NOISE), Image.fromarray(SMOOTH)
    clear = noise.convert("RGBA")
    clear.putalpha(smooth.convert("L"))
    few = smooth.quantize(8)
    if suffix == "jpg":
        return [
            encoded(smooth, "JPEG", exif=exif(6)),
            encoded(noise, "JPEG", progressive=True, exif=exif(3, order=">")),
            encoded(smooth.convert("CMYK"), "JPEG"),
            encoded(smooth.convert("L"), "JPEG", restart_marker_rows=1),
        ]
    if suffix == "png":
        return [
            encoded(noise, "PNG", exif=exif(8)),
            encoded(clear, "PNG"),
            encoded(few, "PNG", transparency=bytes(range(0, 256, 36))),
            encoded(noise.convert("1"), "PNG"),
            png(NOISE[..., :1].astype(int) * 257, 16, 0, png_chunk(b"tRNS", b"\1\1")),
            encoded(noise, "PNG", save_all=True, append_images=[smooth]),
        ]
    if suffix == "webp":
        return [
            encoded(smooth, "WEBP"),
            encoded(clear, "WEBP", exif=exif(5)),
            encoded(smooth, "WEBP", lossless=True),
            encoded(noise, "WEBP", save_all=True, append_images=[smooth]),
        ]
    if suffix == "gif":
        return [
            encoded(few, "GIF", transparency=3),
            encoded(noise.convert("L"), "GIF", comment=b"a note"),
            encoded(noise, "GIF", save_all=True, append_images=[smooth]),
        ]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return [
        encoded(noise, "BMP"),
        encoded(few, "BMP"),
        encoded(noise.convert("1"), "BMP"),
        bmp(18, -12, 32, np.asarray(clear)[..., [2, 1, 0, 3]].tobytes(), compression=3, masks=masks),
    ]


def refused(path: Path, **options: int) -> "DataError":
    """What `read_image` says; `probe_image` says it too, or lets the file pass."""
    from omnictl.data.images.files.decoder import probe_image, read_image

    error = complaint(read_image, path, **options)
    options.pop("shorter", None)
    probed = complaint(probe_image, path, **options)
    assert error is not None
    assert error.where == str(path)
    assert probed is None or str(probed) == str(error)
    return error


def read_mutated(suffix: str, count: int, folder: Path) -> None:
    """Leaves a report in the folder, and the last file."""
    from omnictl.data.images.files.decoder import probe_image, read_image

    path = folder / f"file.{suffix}"
    wholes = originals(suffix)
    for whole in wholes:  # everything is loaded before memory is measured
        path.write_bytes(whole)
        read_image(path, shorter=4)

    def write(number: int) -> Callable[[], None]:
        draw = random.Random(f"{suffix} {number}")
        data = mutated(wholes[number % len(wholes)], draw)
        path.write_bytes(with_checksums(data) if suffix == "png" and draw.random() < 0.7 else data)
        return partial(read, draw.choice((None, 4, 9)))

    def read(shorter: int | None) -> None:
        info = probe_image(path)
        pixels = read_image(path, shorter=shorter)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        if shorter is None or min(info.width, info.height) <= shorter:
            assert pixels.shape[:2] == (info.height, info.width)
        else:
            assert min(pixels.shape[:2]) == shorter

    (folder / f"{suffix}.json").write_text(json.dumps(read_broken(path, count, write)))


def large_image(name: str) -> bytes:
    """An image of one colour that takes almost all of the memory that one may take; if it is to come out as it is."""
    kind, side, mode, options = {
        "colours.png": ("PNG", 6_000, "RGB", {"compress_level": 1}),
        "transparent.png": ("PNG", 6_000, "RGBA", {"compress_level": 1}),
        "baseline.jpg": ("JPEG", 6_000, "RGB", {}),
        "progressive.jpg": ("JPEG", 4_400, "RGB", {"progressive": True, "subsampling": 0}),
        "lossless.webp": ("WEBP", 3_600, "RGB", {"lossless": True, "method": 0, "quality": 0}),
    }[name]
    return encoded(Image.new(mode, (side, side), 9), kind, **options)


LARGE = ("colours.png", "transparent.png", "baseline.jpg", "progressive.jpg", "lossless.webp")


def read_large(name: str, folder: Path) -> None:
    """Leaves a report in the folder."""
    from omnictl.data.images.files.decoder import probe_image, read_image

    path = folder / name
    path.write_bytes(encoded(NOISE, Image.registered_extensions()[path.suffix]))
    read_image(path)
    path.write_bytes(large_image(name))
    start = limit_memory()
    begun = time.process_time()
    info = probe_image(path)
    shape = read_image(path).shape
    seconds = time.process_time() - begun
    for shorter in (info.width // 3, 1):
        assert read_image(path, shorter=shorter).shape == (shorter, shorter, 3)
    assert shape == (info.height, info.width, 3)
    report = {"seconds": seconds, "peak_bytes": peak_bytes(start)}
    (folder / f"{name}.json").write_text(json.dumps(report))


def main(count: int, folder: Path, names: list[str]) -> None:
    import omnictl.data.images.files  # noqa: F401  loaded once, before the processes part

    fork = multiprocessing.get_context("fork")
    calls = {suffix: partial(read_mutated, suffix, count, folder) for suffix in SUFFIXES}
    calls |= {name: partial(read_large, name, folder) for name in LARGE}
    results = {}
    for name in names:
        process = fork.Process(target=calls[name])
        process.start()
        process.join()
        report = folder / f"{name}.json"
        results[name] = {"exit_code": process.exitcode} | (json.loads(report.read_text()) if report.exists() else {})
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
