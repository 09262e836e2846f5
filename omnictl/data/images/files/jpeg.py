"""What a JPEG says of its image, and the parts of it that make the image. Source: ITU-T T.81."""

import re
from pathlib import Path

from omnictl.data.audio.headers import refuse
from omnictl.data.images.files.exif import read_orientation
from omnictl.data.images.files.stored_image import MAX_PARTS, StoredImage
from omnictl.errors import DataError

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Neither an escaped 255 among the pixels, nor a restart there, nor what fills up."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_KEPT = _FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE}
"""Frames, Huffman and arithmetic tables, scans, quantisation, restarts; and the notes of JFIF and Adobe, which tell the colours."""

_LEAST = {0xE0: 14, 0xEE: 12}
"""Bytes of a note of JFIF or Adobe: libjpeg does not look at a shorter one, on which Pillow fails."""

_MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten; each costs a pass over all pixels, however short it is."""


def read_jpeg(data: bytes, path: Path) -> StoredImage:
    """Without its notes, and up to the mark at its end; the first scan is left together with all that follows it."""
    kept, frame, orientation, num_scans, first_scan, at = [data[:2]], b"", 0, 0, 0, 2
    for _ in range(MAX_PARTS):
        marker = _MARKER.search(data, at)
        if marker is None:
            refuse(path, "is cut off: a JPEG without the mark at its end")
        start, body, kind = marker.start(), marker.end() + 2, data[marker.start() + 1]
        if kind == 0xD9:
            break
        at = marker.end() + int.from_bytes(data[marker.end() : body], "big")
        if at < body or at > len(data):
            refuse(path, f"is cut off or broken: JPEG segment {kind:#04x} should end at byte {at:,} of {len(data):,}")
        if kind in _FRAMES:
            if frame:
                refuse(path, "is broken: a JPEG with two frames")
            frame = data[body:at]
        if kind == 0xE1 and data.startswith(b"Exif\0\0", body):
            orientation = orientation or read_orientation(data[body + 6 : at])
        if kind == 0xDA:
            num_scans += 1
            first_scan = first_scan or start
        if kind in _KEPT and at - body >= _LEAST.get(kind, 0) and not num_scans:
            kept.append(data[start:at])
    else:
        refuse(path, f"is broken: a JPEG of more than {MAX_PARTS:,} segments")
    if not num_scans or num_scans > _MAX_SCANS:
        refuse(path, f"is broken: a JPEG of {num_scans:,} scans; between 1 and {_MAX_SCANS} were expected")
    kept.append(data[first_scan : marker.end()])
    width, height, num_samples = _size(frame, path)
    if 8 * (marker.end() - first_scan) < num_samples / 64:  # a block of 8 × 8 samples takes a bit at the very least
        refuse(path, f"is cut off: {marker.end() - first_scan:,} bytes of scans are too few for {width:,} × {height:,} pixels")
    held = 2 * num_samples if num_scans > 1 else 0  # libjpeg keeps the coefficients until the last scan
    return StoredImage("JPEG", width, height, b"".join(kept), orientation or 1, decoder_bytes=held)


def _size(frame: bytes, path: Path) -> tuple[int, int, int]:
    """Width, height, and the number of samples in all components, of which those of colour are often fewer."""
    num_components = frame[5] if len(frame) > 5 else 0
    if len(frame) < 6 + 3 * num_components or not num_components:
        refuse(path, "is broken: a JPEG that does not say how large it is")
    if frame[0] != 8:
        message = f"{path} is a JPEG with samples of {frame[0]} bits; 8 were expected"
        raise DataError(message, where=str(path), fix=f"convert it (magick {path.name} {path.stem}.png)")
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = [(frame[at] >> 4, frame[at] & 15) for at in range(7, 6 + 3 * num_components, 3)]
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    if not most:
        refuse(path, "is broken: a JPEG with components of no size")
    return width, height, -(-width * height * sum(across * down for across, down in factors) // most)
