"""What a JPEG, PNG, WebP, GIF or BMP file says of its picture, read without decoding it, and the parts of it that make the picture.

Everything is held against bounds here, so that a decoder is only given files that are whole, of a size that can be held, and free
of notes, profiles and further frames.
Sources: ITU-T T.81 (JPEG), W3C PNG third edition, Google's WebP container specification, GIF89a, Exif 2.32.
"""

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from PIL import Image

from omnictl.data.audio.containers import refuse
from omnictl.errors import DataError

MAX_PIXELS = 50_000_000
"""Most pixels of a picture that is read, unless the caller says otherwise."""
MAX_SIDE = 32_768
MAX_BYTES = 256 << 20
"""Most memory that reading one picture may take, the file and the result among it."""
_MAX_PARTS = 100_000
"""Segments of a JPEG, chunks of a PNG or WebP: a file of zeros could read as millions."""
_MAX_BLOCKS = 1_000_000
"""Of a GIF's frame, up to 255 bytes each."""
_MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten; each costs a pass over all pixels, however short it is."""
_EXIF_BYTES = 1 << 16
"""As much as a JPEG could hold."""


class StoredPicture(NamedTuple):
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
    """What the decoder holds besides the picture."""


def walk(path: Path, max_pixels: int) -> StoredPicture:
    """What the file says of its picture.

    Raises:
        DataError: not there, not a picture, not whole, or out of bounds.
    """
    data = _read(path)
    head = data[:16]
    if head[:3] == b"\xff\xd8\xff":
        picture = _jpeg(data, path)
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        picture = _png(data, path)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        picture = _webp(data, path)
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        picture = _gif(data, path)
    elif head[:2] == b"BM":
        picture = _bmp(data, path)
    else:
        _refuse_format(head, path)
    if Image.MAX_IMAGE_PIXELS is not None:  # there Pillow would warn
        max_pixels = min(max_pixels, Image.MAX_IMAGE_PIXELS)
    _check_bounds(picture, path, max_pixels)
    return picture


def _read(path: Path) -> bytes:
    where, fix = str(path), "give the path of a JPEG, PNG, WebP, GIF or BMP file"
    try:
        if not path.exists():
            raise DataError(f"no such file: {path}", where=where, fix=fix)
        if not path.is_file():  # a pipe would block
            found = "a folder" if path.is_dir() else "no regular file"
            raise DataError(f"{path} is {found}, not a picture", where=where, fix=fix)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES // 2:  # it is copied once
                message = f"{path} takes {size >> 20:,} MiB; at most {MAX_BYTES >> 21:,} MiB were expected of a picture"
                raise DataError(message, where=where, fix=smaller(path))
            data = file.read(size)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise DataError(message, where=where, fix="make it readable for this user") from error
    if not data:
        refuse(path, "is empty: 0 bytes")
    return data


def _refuse_format(head: bytes, path: Path) -> NoReturn:
    if head.isascii() and head.decode().isprintable():
        fix = "download the picture itself (`git lfs pull` where it is a Git LFS pointer)"
    else:
        fix = f"convert it (magick {path.name} {path.stem}.png)"
    raise DataError(f"{path} is not a JPEG, PNG, WebP, GIF or BMP file: it begins with {head!r}", where=str(path), fix=fix)


def _check_bounds(picture: StoredPicture, path: Path, max_pixels: int) -> None:
    width, height = picture.width, picture.height
    if min(width, height) < 1:
        refuse(path, f"is {width:,} × {height:,} pixels large; at least 1 × 1 was expected")
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        bounds = f"at most {MAX_SIDE:,} a side and {max_pixels:,} in all were expected"
        raise DataError(f"{path} is {width:,} × {height:,} pixels large; {bounds}", where=str(path), fix=smaller(path))


def smaller(path: Path) -> str:
    """What to do with a picture that is too large."""
    return f"make it smaller (magick {path.name} -resize 2048x2048 {path.stem}.new.png), or take it out of the data"


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Neither an escaped 255 among the pixels, nor a restart there, nor what fills up."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_KEPT = _JPEG_FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE}
"""Frames, Huffman and arithmetic tables, scans, quantisation, restarts; and the notes of JFIF and Adobe, which tell the colours."""
_JPEG_LEAST = {0xE0: 14, 0xEE: 12}
"""Bytes of a note of JFIF or Adobe: libjpeg does not look at a shorter one, on which Pillow fails."""


def _jpeg(data: bytes, path: Path) -> StoredPicture:
    """Without its notes, and up to the mark at its end; the first scan is left together with all that follows it."""
    kept, frame, orientation, num_scans, first_scan, at = [data[:2]], b"", 0, 0, 0, 2
    for _ in range(_MAX_PARTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            refuse(path, "is cut off: a JPEG without the mark at its end")
        start, body, kind = found.start(), found.end() + 2, data[found.start() + 1]
        if kind == 0xD9:
            break
        at = found.end() + int.from_bytes(data[found.end() : body], "big")
        if at < body or at > len(data):
            refuse(path, f"is cut off or broken: JPEG segment {kind:#04x} should end at byte {at:,} of {len(data):,}")
        if kind in _JPEG_FRAMES:
            if frame:
                refuse(path, "is broken: a JPEG with two frames")
            frame = data[body:at]
        if kind == 0xE1 and data.startswith(b"Exif\0\0", body):
            orientation = orientation or _orientation(data[body + 6 : at])
        if kind == 0xDA:
            num_scans += 1
            first_scan = first_scan or start
        if kind in _JPEG_KEPT and at - body >= _JPEG_LEAST.get(kind, 0) and not num_scans:
            kept.append(data[start:at])
    else:
        refuse(path, f"is broken: a JPEG of more than {_MAX_PARTS:,} segments")
    if not num_scans or num_scans > _MAX_SCANS:
        refuse(path, f"is broken: a JPEG of {num_scans:,} scans; between 1 and {_MAX_SCANS} were expected")
    kept.append(data[first_scan : found.end()])
    width, height, num_samples = _jpeg_size(frame, path)
    if 8 * (found.end() - first_scan) < num_samples / 64:  # a block of 8 × 8 samples takes a bit at the very least
        refuse(path, f"is cut off: {found.end() - first_scan:,} bytes of scans are too few for {width:,} × {height:,} pixels")
    held = 2 * num_samples if num_scans > 1 else 0  # libjpeg keeps the coefficients until the last scan
    return StoredPicture("JPEG", width, height, b"".join(kept), orientation or 1, decoder_bytes=held)


def _jpeg_size(frame: bytes, path: Path) -> tuple[int, int, int]:
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


def _png(data: bytes, path: Path) -> StoredPicture:
    """Without its notes and later frames."""
    kept, header, orientation, transparent, at = [data[:8]], b"", 0, b"", 8
    for _ in range(_MAX_PARTS):
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
            orientation = orientation or _orientation(data[body : min(end, body + _EXIF_BYTES)])
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
        refuse(path, f"is broken: a PNG of more than {_MAX_PARTS:,} chunks")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    return StoredPicture("PNG", width, height, b"".join(kept), orientation or 1, _png_transparent(header, transparent, path))


def _png_transparent(header: bytes, entries: bytes, path: Path) -> tuple[int, ...] | None:
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


def _webp(data: bytes, path: Path) -> StoredPicture:
    size, orientation, at, end = (0, 0), 0, 12, 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        refuse(path, f"is cut off: a WebP that should take {end:,} bytes, {len(data):,} are there")
    for _ in range(_MAX_PARTS):
        if at + 8 > end:
            break
        name, body = data[at : at + 4], at + 8
        after = body + int.from_bytes(data[at + 4 : body], "little")
        if after > end:
            refuse(path, f"is broken: WebP chunk {name!r} should end at byte {after:,} of {end:,}")
        if at == 12:
            size = _webp_size(name, data[body : min(after, body + 10)])
        if name == b"EXIF":
            orientation = orientation or _orientation(data[body : min(after, body + _EXIF_BYTES)])
        at = after + after % 2
    else:
        refuse(path, f"is broken: a WebP of more than {_MAX_PARTS:,} chunks")
    held = 12 * size[0] * size[1] + end  # two canvases and a copy; and the file once more
    return StoredPicture("WEBP", *size, data[:end], orientation or 1, decoder_bytes=held)


def _webp_size(name: bytes, body: bytes) -> tuple[int, int]:
    """Width and height of the canvas; nothing where there is none."""
    if name == b"VP8X" and len(body) >= 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if name == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return 0, 0


def _gif(data: bytes, path: Path) -> StoredPicture:
    """Up to the end of its first frame. The screen grows with a frame that is larger, as Pillow has it."""
    screen = data[6:13].ljust(7, b"\0")
    width, height = int.from_bytes(screen[:2], "little"), int.from_bytes(screen[2:4], "little")
    at = 13 + _gif_palette_bytes(screen[4])
    for _ in range(_MAX_PARTS):
        kind = data[at : at + 1]
        if kind == b"!":
            at = _gif_blocks_end(data, at + 2, path)
        elif kind == b",":
            left, top, across, down, flags = struct.unpack("<HHHHB", data[at + 1 : at + 10].ljust(9, b"\0"))
            width, height = max(width, left + across), max(height, top + down)
            at = _gif_blocks_end(data, at + 11 + _gif_palette_bytes(flags), path)
            break
        elif kind in (b"", b";"):
            refuse(path, "is cut off or broken: a GIF without a frame")
        else:  # stray bytes between blocks do no harm
            at += 1
    else:
        refuse(path, f"is broken: no frame among the first {_MAX_PARTS:,} blocks of a GIF")
    if at == len(data):
        refuse(path, "is cut off: a GIF that ends with a frame")
    return StoredPicture("GIF", width, height, data[:at] + b";")


def _gif_palette_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 128 else 0


def _gif_blocks_end(data: bytes, at: int, path: Path) -> int:
    """Behind the empty block that ends them."""
    for _ in range(_MAX_BLOCKS):
        if at >= len(data):
            refuse(path, f"is cut off: a block of a GIF should begin at byte {at:,} of {len(data):,}")
        num_bytes = data[at]
        at += 1 + num_bytes
        if not num_bytes:
            return at
    return refuse(path, f"is broken: a GIF's frame of more than {_MAX_BLOCKS:,} blocks")


def _bmp(data: bytes, path: Path) -> StoredPicture:
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
    return StoredPicture("BMP", width, height, data)


def _orientation(exif: bytes) -> int:
    """1 where it does not say, or says nonsense: a picture is not refused for its notes."""
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
