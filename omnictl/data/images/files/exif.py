"""The orientation in EXIF metadata. Source: Exif 2.32."""

from typing import Literal


def read_orientation(exif: bytes) -> int:
    """1 where it does not say, or says nonsense: an image is not refused for its notes."""
    exif = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    first = int.from_bytes(exif[4:8], order) + 2
    after = first + 12 * int.from_bytes(exif[first - 2 : first], order)
    for at in range(first, min(after, len(exif)), 12):
        if int.from_bytes(exif[at : at + 2], order) == 0x0112 and int.from_bytes(exif[at + 2 : at + 4], order) == 3:
            orientation = int.from_bytes(exif[at + 8 : at + 10], order)
            return orientation if 1 <= orientation <= 8 else 1
    return 1
