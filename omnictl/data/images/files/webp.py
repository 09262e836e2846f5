"""What a WebP says of its image. Source: Google's WebP container specification."""

from pathlib import Path

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.exif import read_orientation
from omnictl.data.images.files.stored_image import EXIF_BYTES, MAX_PARTS, StoredImage


def read_webp(data: bytes, path: Path) -> StoredImage:
    """Check that all chunks are there, and read the size of the canvas and the orientation."""
    size, orientation, at, end = (0, 0), 0, 12, 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        refuse(path, f"is cut off: a WebP that should take {end:,} bytes, {len(data):,} are there")
    for _ in range(MAX_PARTS):
        if at + 8 > end:
            break
        name, body = data[at : at + 4], at + 8
        after = body + int.from_bytes(data[at + 4 : body], "little")
        if after > end:
            refuse(path, f"is broken: WebP chunk {name!r} should end at byte {after:,} of {end:,}")
        if at == 12:
            size = _size(name, data[body : min(after, body + 10)])
        if name == b"EXIF":
            orientation = orientation or read_orientation(data[body : min(after, body + EXIF_BYTES)])
        at = after + after % 2
    else:
        refuse(path, f"is broken: a WebP of more than {MAX_PARTS:,} chunks")
    held = 12 * size[0] * size[1] + end  # two canvases and a copy; and the file once more
    return StoredImage("WEBP", *size, data[:end], orientation or 1, decoder_bytes=held)


def _size(name: bytes, body: bytes) -> tuple[int, int]:
    """Width and height of the canvas; nothing where there is none."""
    if name == b"VP8X" and len(body) >= 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if name == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return 0, 0
