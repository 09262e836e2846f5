"""What the container of a WAV, FLAC, OGG (Vorbis, Opus) or MP3 file claims, and whether it is whole.

Each has evidence of its own: chunk sizes, page checksums and numbers, the chain of MP3 frames, and FLAC's checksum of the
samples, which is passed on: nothing is decoded here.
Left out on purpose: other containers, and WAVs with compressed samples.
"""

import os
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, NoReturn

from omnictl.data.audio.av_decoder import is_av_file
from omnictl.errors import DataError

_MAX_CHUNKS = 1_000
"""Of a WAV, before its samples. A file of zeros reads as one chunk every eight bytes."""
_STREAMED_BYTES = 0x7FFF_0000
"""What programs that write a WAV to a pipe say at least that its samples take: SoX 0x7FFFF000, down to a whole sample; FFmpeg
0xFFFFFFFF."""
_PADDING_BYTES = 1_000
"""Of zeros behind the last frame of an MP3: libmpg123 gives up where it finds no frame for 1,024 bytes."""
_COUNTED_PADDING_BYTES = 1 << 16
"""The same where a Xing header counts the frames. More are those of a download that did not end."""


class Claim(NamedTuple):
    """What a container says about its samples, to compare with what libsndfile finds."""

    frames: int | None = None
    """`None`: nothing beyond what libsndfile reads."""
    slack: int = 0
    """Frames by which libsndfile may fall short."""
    md5: bytes = b""
    """Of the samples; empty if there is none."""
    library: Literal["libsndfile", "FFmpeg"] = "libsndfile"
    """What decodes it."""


def read_claim(path: Path) -> Claim:
    """Walk through the container and return what it says about its samples.

    Raises:
        DataError: not a file that can be read, not audio, or not whole.
    """
    where, fix = str(path), "give the path of a WAV, FLAC, OGG, MP3, M4A or WebM file"
    try:
        if not path.exists():
            raise DataError(f"no such file: {path}", where=where, fix=fix)
        if not path.is_file():  # a pipe would block
            raise DataError(f"{path} is {'a folder' if path.is_dir() else 'a pipe or a device'}, not audio", where=where, fix=fix)
        with path.open("rb") as file:
            return _claim_in(file, path)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise DataError(message, where=where, fix="make it readable for this user") from error


def _claim_in(file: BinaryIO, path: Path) -> Claim:
    size = os.fstat(file.fileno()).st_size
    if not size:
        refuse(path, "is empty: 0 bytes")
    head = file.read(16)
    start = 0
    if head[:3] == b"ID3":  # a tag before the audio, whose size comes in four groups of seven bits
        groups = head[6:10]
        start = 10 + sum((group & 0x7F) << shift for group, shift in zip(groups, (21, 14, 7, 0), strict=False))
        file.seek(start)
        head = file.read(16)
    file.seek(start)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and b"WAVE".startswith(head[8:12]):
        claim = _wav_claim(file, path, size)
    elif head[:4] == b"fLaC":
        claim = _flac_claim(file, path)
    elif head[:4] == b"OggS":
        claim = _ogg_claim(file, path)
    elif len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # 11 bits of synchronisation, and layer III
        claim = _mp3_claim(file, path, size)
    elif is_av_file(head):
        claim = Claim(library="FFmpeg")
    else:
        _refuse_format(head, path)
    if path.suffix.lower() == ".raw":
        message = f"{path} is audio with a header, but soundfile takes every .raw for samples alone"
        raise DataError(message, where=str(path), fix="rename it to .wav, .flac, .ogg or .mp3")
    return claim


def refuse(path: Path, flaw: str, cause: Exception | None = None) -> NoReturn:
    """Refuse a file that is not whole.

    Args:
        path: of the file.
        flaw: what is wrong with it, to be read after the path.
        cause: the error that showed it.

    Raises:
        DataError: always.
    """
    raise DataError(f"{path} {flaw}", where=str(path), fix="copy or download it anew, or take it out of the data") from cause


def _refuse_unless_played(path: Path, flaw: str) -> NoReturn:
    """Refuse a file that may be whole, though its container says otherwise."""
    fix = f"copy or download it anew, or, if players play it whole, {_conversion(path)}"
    raise DataError(f"{path} {flaw}", where=str(path), fix=fix)


def _conversion(path: Path) -> str:
    return f"convert it (ffmpeg -i {path.name} {path.stem}.new.flac)"


def _refuse_format(head: bytes, path: Path) -> NoReturn:
    if head.isascii() and head.decode().isprintable():
        fix = "download the recording itself (`git lfs pull` where it is a Git LFS pointer)"
    else:
        fix = f"convert it (ffmpeg -i {path.name} {path.stem}.flac)"
    raise DataError(f"{path} is not a WAV, FLAC, OGG, MP3, M4A or WebM file: it begins with {head!r}", where=str(path), fix=fix)


def _wav_claim(file: BinaryIO, path: Path, size: int) -> Claim:
    """The samples that the `data` chunk should hold; nothing for a stream, whose writer did not know."""
    order: Literal["little", "big"] = "big" if file.read(12)[:4] == b"RIFX" else "little"
    frame_bytes, long_bytes = 0, 0
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        name, num_bytes, start = head[:4], int.from_bytes(head[4:], order), file.tell()
        if len(head) < 8:
            break
        if name == b"data":
            if num_bytes == 0xFFFF_FFFF and long_bytes:
                num_bytes = long_bytes
            elif num_bytes == 0xFFFF_FFFF or (num_bytes >= _STREAMED_BYTES and num_bytes > size - start):
                return Claim()
            elif not num_bytes and start < size and not _is_chunk(file.read(8), size - start, order):
                message = f"{path} does not say how long it is, as a WAV that was written to a pipe"
                raise DataError(message, where=str(path), fix=_conversion(path))
            if num_bytes > size - start:
                refuse(path, f"is cut off: its samples should take {num_bytes:,} bytes, {size - start:,} are there")
            return Claim(num_bytes // frame_bytes) if frame_bytes else Claim()  # without `fmt `, libsndfile refuses it
        if name == b"ds64":  # in files of more than 4 GiB
            long_bytes = int.from_bytes(file.read(16)[8:], order)
        if name == b"fmt ":
            frame_bytes = _wav_frame_bytes(file.read(26), order, path)
        file.seek(start + num_bytes + num_bytes % 2)
    refuse(path, "is cut off or broken: a WAV header without a 'data' chunk")


def _is_chunk(head: bytes, left: int, order: Literal["little", "big"]) -> bool:
    """Whether eight bytes are the head of a chunk that ends within the `left` bytes from there on, and not samples."""
    return head[:4].isascii() and head[:4].decode().isprintable() and 8 + int.from_bytes(head[4:], order) <= left


def _wav_frame_bytes(fmt: bytes, order: Literal["little", "big"], path: Path) -> int:
    """Bytes that one sample of every channel takes."""
    code, frame_bytes, extended = (int.from_bytes(fmt[at : at + 2], order) for at in (0, 12, 24))
    if code == 0xFFFE:
        code = extended
    if code not in (1, 3, 6, 7):  # whole numbers, floats, A-law, µ-law
        message = f"{path} is a WAV with compressed samples (format {code:#06x}); whole numbers or floats were expected"
        raise DataError(message, where=str(path), fix=f"convert it (ffmpeg -i {path.name} {path.stem}.flac)")
    return frame_bytes


def _flac_claim(file: BinaryIO, path: Path) -> Claim:
    """Length and checksum; a frame with a wrong checksum of its own is noticed by libFLAC."""
    head = file.read(42)  # the mark, a block header, and the first block: STREAMINFO
    if len(head) < 42 or head[4] & 0x7F:
        refuse(path, "is cut off or broken: a FLAC header without STREAMINFO")
    frames = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    if not frames:
        message = f"{path} does not say how long it is, as FLAC that was written to a pipe"
        raise DataError(message, where=str(path), fix=_conversion(path))
    md5 = head[26:42]
    return Claim(frames, md5=md5 if any(md5) else b"")


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 as Ogg has it: zlib's with the bits of every byte, and of the result, in the other order, and no complements."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _ogg_claim(file: BinaryIO, path: Path) -> Claim:
    """Nothing beyond what libsndfile reads, but only if every page is there and whole, up to the one that is marked as the last."""
    first, is_last, num_pages = 0, False, 0
    while head := file.read(27):
        if head[:4] != b"OggS"[: len(head)]:
            refuse(path, f"is broken: no Ogg page where page {num_pages:,} should begin")
        lengths = file.read(head[26]) if len(head) == 27 else b""
        body = file.read(sum(lengths))
        if len(head) < 27 or len(lengths) < head[26] or len(body) < sum(lengths):
            refuse(path, f"is cut off in Ogg page {num_pages:,}")
        if _ogg_checksum(head[:22] + bytes(4) + head[26:] + lengths + body) != int.from_bytes(head[22:26], "little"):
            refuse(path, f"is broken: Ogg page {num_pages:,} does not have the checksum that its header gives")
        mark = int.from_bytes(head[14:22], "little")  # the stream's number, then the page's
        first = first if num_pages else mark
        if mark & 0xFFFF_FFFF != first & 0xFFFF_FFFF or is_last:
            message = f"{path} holds several Ogg streams; one was expected"
            raise DataError(message, where=str(path), fix=f"take one out (ffmpeg -i {path.name} -map 0:a:0 {path.stem}.flac)")
        if mark >> 32 != (first >> 32) + num_pages:
            refuse(path, f"is broken: Ogg page {num_pages:,} is missing")
        is_last = bool(head[5] & 4)
        num_pages += 1
    if not is_last:
        _refuse_unless_played(path, f"is cut off: the last of its {num_pages:,} Ogg pages is not marked as the last")
    return Claim()


_MP3_KBPS = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MP3_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By version: 1, 2 and 2.5."""
_MP3_TAGS = (b"TAG", b"APET", b"LYRI", b"ID3")
"""What may follow the last frame."""


def _mp3_claim(file: BinaryIO, path: Path, size: int) -> Claim:
    """Follows the chain of frames. A Xing header must count them rightly (libsndfile goes by it); without one, they are counted."""
    num_frames, first, promised = 0, 0, 0
    while (head := file.read(4)) and not head.startswith(_MP3_TAGS):
        at = file.tell() - len(head)
        header = int.from_bytes(head, "big")
        first = first or header
        frame_bytes = _mp3_frame_bytes(header)
        if not header and size - at <= (_COUNTED_PADDING_BYTES if promised else _PADDING_BYTES) and _is_padding(file.read()):
            break
        if not frame_bytes or len(head) < 4 or (header ^ first) & 0xFFFE_0C00:  # version, layer and rate stay
            _refuse_unless_played(path, f"is broken: no MP3 frame at byte {at:,}, after {num_frames:,} frames")
        if at + frame_bytes > size:
            refuse(path, f"is cut off in MP3 frame {num_frames:,}: it should end at byte {at + frame_bytes:,} of {size:,}")
        if not num_frames:
            promised = _xing_frames(file.read(frame_bytes - 4))
        file.seek(at + frame_bytes)
        num_frames += 1
    if not promised:
        per_frame = 1152 if first >> 19 & 1 else 576
        return Claim(num_frames * per_frame, slack=per_frame)
    if num_frames - 1 != promised:
        _refuse_unless_played(path, f"is broken: its header promises {promised:,} MP3 frames, {num_frames - 1:,} are there")
    return Claim()


def _is_padding(rest: bytes) -> bool:
    """Whether what follows the last frame is zeros, and perhaps tags."""
    tags = rest.lstrip(b"\0")
    return not tags or tags.startswith(_MP3_TAGS)


def _mp3_frame_bytes(header: int) -> int:
    """Length of the frame that these four bytes begin; 0 if they do not begin one of a known length."""
    version, layer, kbps, rate, padding = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or kbps in (0, 15) or rate == 3:
        return 0
    is_first_version = version == 3
    bits = (144_000 if is_first_version else 72_000) * _MP3_KBPS[is_first_version][kbps - 1]
    return bits // _MP3_HZ[version][rate] + padding


def _xing_frames(body: bytes) -> int:
    """The count of frames in a first frame that describes the others; 0 if it is none or does not say."""
    at = max(body[:40].find(b"Xing"), body[:40].find(b"Info"))
    if at < 0 or not body[at + 7] & 1:
        return 0
    return int.from_bytes(body[at + 8 : at + 12], "big")
