"""What a PNG says of its image, and the chunks of it that make the image. Source: W3C PNG third edition."""

import zlib
from pathlib import Path

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.exif import read_orientation
from omnictl.data.images.files.stored_image import EXIF_BYTES, MAX_PARTS, StoredImage


def read_png(data: bytes, path: Path) -> StoredImage:
    """Without its notes and later frames."""
    kept, header, orientation, transparent, at = [data[:8]], b"", 0, b"", 8
    for _ in range(MAX_PARTS):
        name, body = data[at + 4 : at + 8], at + 8
        end = body + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data) or len(name) < 4:
            refuse(path, f"is cut off: a PNG chunk should end at byte {end + 4:,} of {len(data):,}")
        is_kept, is_needed = name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"), not name[0] & 32
        is_whole = zlib.crc32(memoryview(data)[at + 4 : end]) == int.from_bytes(data[end : end + 4], "big")
        if not is_whole and name != b"eXIf":
            refuse(path, f"is broken: PNG chunk {name!r} does not have the checksum that follows it")
        if is_needed and not is_kept:
            refuse(path, f"is broken: nothing is known of PNG chunk {name!r}, without which it cannot be read")
        if is_whole and name == b"eXIf":
            orientation = orientation or read_orientation(data[body : min(end, body + EXIF_BYTES)])
        if (name == b"IHDR") != (at == 8) or (name == b"IHDR" and end - body != 13):
            refuse(path, "is broken: a PNG does not begin with one header")
        if name == b"IHDR":
            header = data[body:end]
        if name == b"tRNS":
            transparent = data[body : min(end, body + 257)]
        if is_kept and (name != b"tRNS" or header[9] == 3):
            kept.append(data[at : end + 4])
        at = end + 4
        if name == b"IEND":
            break
    else:
        refuse(path, f"is broken: a PNG of more than {MAX_PARTS:,} chunks")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    return StoredImage("PNG", width, height, b"".join(kept), orientation or 1, _transparent_samples(header, transparent, path))


def _transparent_samples(header: bytes, entries: bytes, path: Path) -> tuple[int, ...] | None:
    """As Pillow gives the samples: greys of fewer than 8 bits are stretched, colours of 16 bits have lost their lower half."""
    bits, colours = header[8], header[9]
    if not entries or (colours == 3 and len(entries) <= 256):
        return None
    num_samples = {0: 1, 2: 3}.get(colours, 0)
    if not num_samples or len(entries) != 2 * num_samples or bits not in (1, 2, 4, 8, 16):
        refuse(path, f"is broken: PNG chunk tRNS does not go with colour type {colours} of {bits} bits")
    samples = (int.from_bytes(entries[at : at + 2], "big") for at in range(0, 2 * num_samples, 2))
    if bits == 16:
        return tuple(sample >> 8 if colours == 2 else sample for sample in samples)
    return tuple((sample & (1 << bits) - 1) * 255 // ((1 << bits) - 1) for sample in samples)
