"""An image as it lies in its file: what the header says, and the bytes that a decoder gets to see."""

from typing import NamedTuple

MAX_PARTS = 100_000
"""Segments of a JPEG, chunks of a PNG or WebP: a file of zeros could read as millions."""

EXIF_BYTES = 1 << 16
"""As much as a JPEG could hold."""


class StoredImage(NamedTuple):
    """What the header says, and what of the file Pillow gets to see."""

    format: str
    width: int
    """As stored, before the orientation."""
    height: int
    stream: bytes
    orientation: int = 1
    """1 to 8, as in EXIF."""
    transparent: tuple[int, ...] | None = None
    """The samples that stand for transparent, in a PNG without a palette."""
    decoder_bytes: int = 0
    """What the decoder holds besides the image."""
