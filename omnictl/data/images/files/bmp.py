"""What a BMP says of its image."""

import struct
from pathlib import Path

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.stored_image import StoredImage
from omnictl.errors import DataError


def read_bmp(data: bytes, path: Path) -> StoredImage:
    """Read the header; the whole file goes to the decoder."""
    first, header_bytes = int.from_bytes(data[10:14], "little"), int.from_bytes(data[14:18], "little")
    if header_bytes not in (12, 40, 52, 56, 64, 108, 124) or len(data) < 14 + header_bytes:
        refuse(path, f"is cut off or broken: a BMP header of {header_bytes:,} bytes")
    if header_bytes == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    if compression not in (0, 3):  # plain, or plain with masks for the colours
        message = f"{path} is a BMP with compressed pixels (method {compression:,}); plain ones were expected"
        raise DataError(message, where=str(path), fix=f"convert it (magick {path.name} {path.stem}.png)")
    height = abs(height)  # negative: the first row is the top one
    end = max(first, 14 + header_bytes) + (width * bits + 31) // 32 * 4 * height
    if end > len(data):
        refuse(path, f"is cut off: a BMP whose pixels should end at byte {end:,} of {len(data):,}")
    return StoredImage("BMP", width, height, data)
