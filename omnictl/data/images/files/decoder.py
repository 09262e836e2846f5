"""Reads images out of JPEG, PNG, WebP, GIF and BMP files, as RGB of 8 bits.

Pillow decodes. It is generous, though, and its memory goes by what a header claims: it gives a JPEG without an end as it is, does
not look at the checksums of a PNG's pixels, allocates before it decodes, reads corrupt EXIF with warnings or not at all, and takes
pages of notes before the first pixel. So each file is walked through first: its size is held against bounds, its orientation is
read, and Pillow sees no more than the parts that make the image.

16 bits become the upper 8. What is transparent lies on white. CMYK is taken as Adobe writes it, inverted. Of an animation, the
first frame is read. Orientations are those of EXIF; what is corrupt there is ignored.

What cannot be noticed: changed bits in a JPEG, WebP, GIF or BMP, which carry no checksum, where they still make an image (a JPEG
that was cut and given a new end is grey from there on); a PNG whose pixels were too few when it was written (the rest is black);
and what is missing behind the first frame of an animated GIF.
Left out on purpose: colour profiles, gamma, XMP; compressed BMPs; every other format. TIFF is a container of many codecs.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  registers the format: else Pillow would load all of its plugins at the first WebP
)

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.headers import MAX_BYTES, MAX_PIXELS, MAX_SIDE, read_header, shrink_hint
from omnictl.data.images.files.stored_image import StoredImage
from omnictl.errors import DataError

_MAX_FACTOR = 8
"""Side of the squares that are averaged into pixels, and a divisor of the rows that become RGB at once."""
_BAND_PIXELS = _MAX_FACTOR * MAX_SIDE
"""Pixels that are turned into RGB at once, in several copies: 32 bytes for each."""
_LEAST_RATIO = 2
"""Of the image that is resized to the one that comes out: below this, reducing before by whole factors would be seen."""
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Pillow promises no set of errors. Its parsers index, unpack and divide what they read, and let through whatever that raises.
No `MemoryError`: memory is bounded before, so that running out of it is not the fault of the file."""


class ImageInfo(NamedTuple):
    """What the header says of an image."""

    width: int
    """In pixels, as the image is shown: after its orientation."""
    height: int
    format: str
    """JPEG, PNG, WEBP, GIF or BMP."""


def probe_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Size and format of an image, from its headers; nothing is decoded.

    Raises:
        DataError: not there, not an image, not whole, or out of bounds.
    """
    stored = read_header(path, max_pixels)
    width, height = stored.width, stored.height
    return ImageInfo(height, width, stored.format) if stored.orientation > 4 else ImageInfo(width, height, stored.format)


def read_image(path: Path, *, shorter: int | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """An image as it is shown; of an animation, the first frame.

    Args:
        path: a JPEG, PNG, WebP, GIF or BMP file, recognised by its content.
        shorter: length of the shorter side of the result, in pixels; a smaller image is left as it is.
        max_pixels: what is larger by its header is refused before anything is decoded.

    Returns:
        (H, W, 3): red, green, blue; what is transparent lies on white.

    Raises:
        DataError: not there, not an image, not whole, or out of bounds.
    """
    assert shorter is None or shorter > 0
    stored = read_header(path, max_pixels)
    plan = _plan(stored, shorter)
    _check_memory(stored, plan, path)
    pixels = _decode(stored, plan, path)
    if plan.size != (stored.width, stored.height):
        pixels = _resize(pixels, stored, plan)
    return np.ascontiguousarray(_orient(pixels, stored.orientation))


class _Plan(NamedTuple):
    """How an image becomes smaller."""

    size: tuple[int, int]
    """Width and height of the result, before it is turned."""
    scale: int
    """Of libjpeg, which leaves out fine detail while it decodes: 1, 2, 4 or 8."""
    factor: int
    """Side of the squares that are averaged into one pixel afterwards."""

    def reduce_size(self, stored: StoredImage, by: int) -> tuple[int, int]:
        """Width and height after a reduction, of which the last column and row may stand for fewer pixels."""
        return -(-stored.width // by), -(-stored.height // by)


def _plan(stored: StoredImage, shorter: int | None) -> _Plan:
    width, height = stored.width, stored.height
    side = min(width, height)
    if shorter is None or side <= shorter:
        return _Plan((width, height), 1, 1)
    least = _LEAST_RATIO * shorter
    scale = next(scale for scale in (8, 4, 2, 1) if scale == 1 or side // least >= scale) if stored.format == "JPEG" else 1
    factor = min(max(1, side // scale // least), _MAX_FACTOR)
    return _Plan((round(width * shorter / side), round(height * shorter / side)), scale, factor)


def _check_memory(stored: StoredImage, plan: _Plan, path: Path) -> None:
    """Pillow takes 4 bytes a pixel, an array 3; then `_resize` has its own. Turning takes no more than decoding did."""
    (width, height), (out_width, out_height) = plan.reduce_size(stored, plan.scale), plan.size
    across, down = plan.reduce_size(stored, plan.scale * plan.factor)
    decoding = stored.decoder_bytes + 4 * width * height + 3 * across * down + 32 * _BAND_PIXELS
    resizing = 5 * across * down + out_width * down + 6 * out_width * out_height
    num_bytes = len(stored.stream) + max(decoding, resizing if plan.size != (stored.width, stored.height) else 0)
    if num_bytes > MAX_BYTES:
        message = f"{path} would take {num_bytes >> 20:,} MiB to decode; at most {MAX_BYTES >> 20:,} MiB were expected"
        raise DataError(message, where=str(path), fix=shrink_hint(path))


def _decode(stored: StoredImage, plan: _Plan, path: Path) -> NDArray[np.uint8]:
    """(height, width, 3), reduced by libjpeg and by averaging."""
    image = _load(stored, plan, path)
    across, down = plan.reduce_size(stored, plan.scale * plan.factor)
    pixels = np.empty((down, across, 3), np.uint8)
    num_rows = max(1, _BAND_PIXELS // (image.width * plan.factor)) * plan.factor
    for top in range(0, image.height, num_rows):
        band = image.crop((0, top, image.width, min(top + num_rows, image.height)))
        rgb = _flatten(band, stored.transparent, path)
        if plan.factor > 1:
            rgb = np.asarray(Image.fromarray(rgb).reduce(plan.factor))
        start = top // plan.factor
        pixels[start : start + len(rgb)] = rgb
    return pixels


def _load(stored: StoredImage, plan: _Plan, path: Path) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(stored.stream), formats=(stored.format,))
        if image.size != (stored.width, stored.height):
            sizes = f"{stored.width:,} × {stored.height:,} pixels, its image has {image.width:,} × {image.height:,}"
            refuse(path, f"is broken: its header says {sizes}")
        if plan.scale > 1:
            image.draft(None, (stored.width // plan.scale, stored.height // plan.scale))
        image.load()
        if stored.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
            image.putalpha(255)  # some writers leave that byte at zero
    except UnidentifiedImageError as error:
        refuse(path, f"is broken: Pillow can make nothing of this {stored.format}", error)
    except _PILLOW_ERRORS as error:
        refuse(path, f"is broken: {str(error) or type(error).__name__}", error)
    return image


def _flatten(band: Image.Image, transparent: tuple[int, ...] | None, path: Path) -> NDArray[np.uint8]:
    """(rows, width, 3): some rows of an image, in RGB, on white."""
    if band.mode in ("RGBA", "LA") or "transparency" in band.info:
        colours = band.convert("RGBA")
        white = Image.new("RGB", band.size, "white")
        white.paste(colours, mask=colours)
        return np.asarray(white)
    if band.mode == "I;16":  # Pillow would clip it
        samples = np.asarray(band)[..., None]  # (rows, width, 1)
        rgb = np.repeat((samples >> 8).astype(np.uint8), 3, axis=2)
    elif band.mode in ("1", "L", "P", "RGB", "CMYK"):
        rgb = np.array(band.convert("RGB"))
        samples = rgb
    else:
        message = f"{path} has pixels of mode {band.mode}; grey, palette, RGB or CMYK were expected"
        raise DataError(message, where=str(path), fix=f"convert it (magick {path.name} {path.stem}.png)")
    if transparent is not None:
        rgb[(samples == np.array(transparent, samples.dtype)).all(axis=2)] = 255
    return rgb


def _resize(pixels: NDArray[np.uint8], stored: StoredImage, plan: _Plan) -> NDArray[np.uint8]:
    """(height, width, 3) as planned. One colour at a time, to take less memory."""
    whole = plan.scale * plan.factor
    box = (0.0, 0.0, stored.width / whole, stored.height / whole)  # the last column and row may stand for fewer pixels
    resized = np.empty((plan.size[1], plan.size[0], 3), np.uint8)
    for colour in range(3):
        image = Image.fromarray(pixels[..., colour]).resize(plan.size, Image.Resampling.BICUBIC, box)
        resized[..., colour] = np.asarray(image)
    return resized


def _orient(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn pixels as EXIF asks. From 5 on, rows and columns change places first."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]
