"""What a GIF says of its first frame, and the file up to the end of that. Source: GIF89a."""

import struct
from pathlib import Path

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.stored_image import MAX_PARTS, StoredImage

_MAX_BLOCKS = 1_000_000
"""Of a GIF's frame, up to 255 bytes each."""


def read_gif(data: bytes, path: Path) -> StoredImage:
    """Up to the end of its first frame. The screen grows with a frame that is larger, as Pillow has it."""
    screen = data[6:13].ljust(7, b"\0")
    width, height = int.from_bytes(screen[:2], "little"), int.from_bytes(screen[2:4], "little")
    at = 13 + _palette_bytes(screen[4])
    for _ in range(MAX_PARTS):
        kind = data[at : at + 1]
        if kind == b"!":
            at = _blocks_end(data, at + 2, path)
        elif kind == b",":
            left, top, across, down, flags = struct.unpack("<HHHHB", data[at + 1 : at + 10].ljust(9, b"\0"))
            width, height = max(width, left + across), max(height, top + down)
            at = _blocks_end(data, at + 11 + _palette_bytes(flags), path)
            break
        elif kind in (b"", b";"):
            refuse(path, "is cut off or broken: a GIF without a frame")
        else:  # stray bytes between blocks do no harm
            at += 1
    else:
        refuse(path, f"is broken: no frame among the first {MAX_PARTS:,} blocks of a GIF")
    if at == len(data):
        refuse(path, "is cut off: a GIF that ends with a frame")
    return StoredImage("GIF", width, height, data[:at] + b";")


def _palette_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 128 else 0


def _blocks_end(data: bytes, at: int, path: Path) -> int:
    """Behind the empty block that ends them."""
    for _ in range(_MAX_BLOCKS):
        if at >= len(data):
            refuse(path, f"is cut off: a block of a GIF should begin at byte {at:,} of {len(data):,}")
        num_bytes = data[at]
        at += 1 + num_bytes
        if not num_bytes:
            return at
    return refuse(path, f"is broken: a GIF's frame of more than {_MAX_BLOCKS:,} blocks")
