"""What a JPEG, PNG, WebP, GIF or BMP file says of its image, read without decoding it, and the parts of it that make the image.

Everything is held against bounds here, so that a decoder is only given files that are whole, of a size that can be held, and free
of notes, profiles and further frames.
"""

import os
from pathlib import Path
from typing import NoReturn

from PIL import Image

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.bmp import read_bmp
from omnictl.data.images.files.gif import read_gif
from omnictl.data.images.files.jpeg import read_jpeg
from omnictl.data.images.files.png import read_png
from omnictl.data.images.files.stored_image import StoredImage
from omnictl.data.images.files.webp import read_webp
from omnictl.errors import DataError

MAX_PIXELS = 50_000_000
"""Most pixels of an image that is read, unless the caller says otherwise."""

MAX_SIDE = 32_768

MAX_BYTES = 256 << 20
"""Most memory that reading one image may take, the file and the result among it."""


def read_header(path: Path, max_pixels: int) -> StoredImage:
    """What the file says of its image.

    Raises:
        DataError: not there, not an image, not whole, or out of bounds.
    """
    data = _read(path)
    head = data[:16]
    if head[:3] == b"\xff\xd8\xff":
        stored = read_jpeg(data, path)
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        stored = read_png(data, path)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        stored = read_webp(data, path)
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        stored = read_gif(data, path)
    elif head[:2] == b"BM":
        stored = read_bmp(data, path)
    else:
        _refuse_format(head, path)
    if Image.MAX_IMAGE_PIXELS is not None:  # there Pillow would warn
        max_pixels = min(max_pixels, Image.MAX_IMAGE_PIXELS)
    _check_bounds(stored, path, max_pixels)
    return stored


def _read(path: Path) -> bytes:
    where, fix = str(path), "give the path of a JPEG, PNG, WebP, GIF or BMP file"
    try:
        if not path.exists():
            raise DataError(f"no such file: {path}", where=where, fix=fix)
        if not path.is_file():  # a pipe would block
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise DataError(f"{path} is {kind}, not an image", where=where, fix=fix)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES // 2:  # it is copied once
                message = f"{path} takes {size >> 20:,} MiB; at most {MAX_BYTES >> 21:,} MiB were expected of an image"
                raise DataError(message, where=where, fix=shrink_hint(path))
            data = file.read(size)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise DataError(message, where=where, fix="make it readable for this user") from error
    if not data:
        refuse(path, "is empty: 0 bytes")
    return data


def _refuse_format(head: bytes, path: Path) -> NoReturn:
    if head.isascii() and head.decode().isprintable():
        fix = "download the image itself (`git lfs pull` where it is a Git LFS pointer)"
    else:
        fix = f"convert it (magick {path.name} {path.stem}.png)"
    raise DataError(f"{path} is not a JPEG, PNG, WebP, GIF or BMP file: it begins with {head!r}", where=str(path), fix=fix)


def _check_bounds(stored: StoredImage, path: Path, max_pixels: int) -> None:
    width, height = stored.width, stored.height
    if min(width, height) < 1:
        refuse(path, f"is {width:,} × {height:,} pixels large; at least 1 × 1 was expected")
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        bounds = f"at most {MAX_SIDE:,} a side and {max_pixels:,} in all were expected"
        raise DataError(f"{path} is {width:,} × {height:,} pixels large; {bounds}", where=str(path), fix=shrink_hint(path))


def shrink_hint(path: Path) -> str:
    """What to do with an image that is too large."""
    return f"make it smaller (magick {path.name} -resize 2048x2048 {path.stem}.new.png), or take it out of the data"
