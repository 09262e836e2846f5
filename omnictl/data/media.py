"""Reads recordings out of WAV, FLAC, OGG (Vorbis, Opus) and MP3 files, as one channel of float32 samples.

libsndfile decodes. It is generous, though: it shortens a cut WAV to what is there, gives an Ogg file that lost its last byte no
samples at all, plays over missing Ogg pages, stops where a FLAC header says even if there is more, and guesses the length of an
MP3 without a Xing header (by half, in our tests). A training set must not lose words that way, so each container's own
evidence is read first: chunk sizes, page checksums and numbers, the chain of MP3 frames, and FLAC's checksum of the samples.
What does not add up is a `DataError`, never silence or a part.

What cannot be noticed: changed bits in the samples of a WAV, or inside the frames of an MP3, which carry no checksum.
Left out on purpose: WAVs with compressed samples, and everything that needs FFmpeg.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, NoReturn

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]
import torch
from numpy.typing import NDArray
from torchaudio.transforms import Resample  # type: ignore[import-untyped, unused-ignore]

from omnictl.errors import DataError

MAX_SECONDS = 3600.0
"""Longest recording that is read, unless the caller says otherwise."""
MIN_HZ = 1_000
MAX_HZ = 384_000
MAX_CHANNELS = 32
MAX_LEVEL = 10.0
"""20 dB above full scale. Mixes in float files peak above 1; samples beyond 10 were never scaled from whole numbers."""

_MAX_CHUNKS = 1_000
"""Of a WAV, before its samples. A file of zeros reads as one chunk every eight bytes."""
_BLOCK = 1 << 18
"""Samples, over all channels, that are decoded or resampled at once."""
_MAX_KERNEL = 1 << 20
"""Values of a resampling kernel. 44,100 → 16,000 Hz takes 70,000; 44,101 → 16,000 Hz would take 700 million."""


class AudioInfo(NamedTuple):
    """What the header says of a recording."""

    seconds: float
    rate: int
    """In Hz."""
    channels: int
    frames: int
    """Samples a channel."""


class _Claim(NamedTuple):
    """What a container says of its samples, to hold against what libsndfile finds."""

    frames: int | None = None
    """`None`: nothing beyond what libsndfile reads."""
    slack: int = 0
    """Frames by which libsndfile may fall short."""
    md5: bytes = b""
    """Of the samples; empty if there is none."""


class _Sequential(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A file that is only read on.

    `SoundFile` seeks after every read. In an MP3 that starts the decoder anew (other values, and libmpg123 complains on standard
    error), in a broken FLAC it hides what is wrong.
    """

    def seekable(self) -> Literal[False]:
        return False


def probe_audio(path: Path, *, max_seconds: float = MAX_SECONDS) -> AudioInfo:
    """Length, rate and channels of a recording, from its headers; nothing is decoded.

    Raises:
        DataError: not there, not audio, not whole, without samples, or out of bounds.
    """
    with _opened(path, max_seconds) as (_, info, _):
        return info


def read_audio(path: Path, *, rate: int, max_seconds: float = MAX_SECONDS) -> NDArray[np.float32]:
    """A recording as one channel, the mean of its channels.

    Args:
        path: a WAV, FLAC, OGG or MP3 file, recognised by its content.
        rate: of the result, in Hz.
        max_seconds: what is longer by its header is refused before anything is decoded.

    Returns:
        (samples,) in [-1, 1]; a file of floats may peak a little above, and is left so.

    Raises:
        DataError: not there, not audio, not whole, without samples, out of bounds, or samples that are no sound.
    """
    with _opened(path, max_seconds) as (sound, info, claim):
        samples = _decode(sound, info, claim, path)
    return resample(samples, info.rate, rate)


@contextmanager
def _opened(path: Path, max_seconds: float) -> Iterator[tuple[_Sequential, AudioInfo, _Claim]]:
    claim = _claim(path)
    try:
        sound = _Sequential(os.fsencode(path) if os.name == "posix" else str(path))
    except soundfile.LibsndfileError as error:
        message = f"{path} cannot be opened as audio: {error.error_string.rstrip('.')}"
        raise DataError(message, where=str(path), fix="copy or download it anew, or take it out of the data") from error
    with sound:
        frames = sound.frames if claim.frames is None else claim.frames
        info = AudioInfo(frames / max(sound.samplerate, 1), sound.samplerate, sound.channels, frames)
        _check_bounds(info, path, max_seconds)
        if sound.frames < frames - claim.slack:
            message = f"{path} holds {frames:,} samples a channel, of which libsndfile would read {sound.frames:,}"
            fix = f"its length is not in its header: convert it (ffmpeg -i {path.name} {path.stem}.flac)"
            raise DataError(message, where=str(path), fix=fix)
        yield sound, info, claim


def _check_bounds(info: AudioInfo, path: Path, max_seconds: float) -> None:
    where, convert = str(path), f"ffmpeg -i {path.name} {{}} {path.stem}.new.flac"
    if not MIN_HZ <= info.rate <= MAX_HZ:
        message = f"{path} has {info.rate:,} samples a second; between {MIN_HZ:,} and {MAX_HZ:,} were expected"
        raise DataError(message, where=where, fix=f"correct its header, or resample it ({convert.format('-ar 48000')})")
    if info.channels > MAX_CHANNELS:
        message = f"{path} has {info.channels:,} channels; at most {MAX_CHANNELS} were expected"
        raise DataError(message, where=where, fix=f"mix it down ({convert.format('-ac 1')})")
    if info.frames == 0:
        raise DataError(f"{path} holds no samples", where=where, fix="record or download it anew, or take it out of the data")
    if info.seconds > max_seconds:
        message = f"{path} is {info.seconds:,.0f} s long; at most {max_seconds:,.0f} s were expected"
        fix = f"cut it into shorter files (ffmpeg -i {path.name} -f segment -segment_time 30 {path.stem}-%04d.flac)"
        raise DataError(message, where=where, fix=fix)


def _decode(sound: _Sequential, info: AudioInfo, claim: _Claim, path: Path) -> NDArray[np.float32]:
    """(frames,): the mean of the channels, at the file's own rate."""
    blocks: list[NDArray[np.float32]] = []
    num_frames = 0
    digest = hashlib.md5(usedforsecurity=False)
    while num_frames <= info.frames:
        try:
            block = sound.read(max(1, _BLOCK // info.channels), dtype="int32" if claim.md5 else "float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            found = error.error_string.removeprefix("Error : ").rstrip(".")
            _refuse(path, f"is broken after {num_frames / info.rate:,.1f} of {info.seconds:,.1f} s: {found}", error)
        if not len(block):
            break
        if claim.md5:
            digest.update(_packed(block, sound.subtype))
            block = block.astype(np.float32) / 2**31
        _check_level(block, num_frames / info.rate, path)
        blocks.append(block.mean(axis=1))  # (frames, channels) -> (frames,)
        num_frames += len(block)
    if not info.frames - claim.slack <= num_frames <= info.frames:
        _refuse(path, f"is broken: its header promises {info.frames:,} frames, {num_frames:,} could be decoded")
    if claim.md5 and digest.digest() != claim.md5:
        _refuse(path, "is broken: its samples do not have the checksum that its header gives")
    return np.concatenate(blocks)


def _packed(block: NDArray[np.int32], subtype: str) -> bytes:
    """Samples as FLAC's checksum takes them: little-endian, in as few bytes as they need; libsndfile shifted them up."""
    width = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}[subtype]
    return block.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes()


def _check_level(block: NDArray[np.float32], seconds: float, path: Path) -> None:
    """`block`: (frames, channels), `seconds` into the recording."""
    level = float(np.abs(block).max())
    if level <= MAX_LEVEL:  # false for NaN
        return
    if np.isfinite(level):
        message = f"{path} has samples up to {level:,.0f} after {seconds:,.1f} s; between -1 and 1 was expected"
        raise DataError(message, where=str(path), fix="scale it: whole numbers of 16 bits are divided by 32768")
    message = f"{path} has samples that are no finite numbers after {seconds:,.1f} s"
    raise DataError(message, where=str(path), fix="write it anew without NaN and infinity, or take it out of the data")


def _refuse(path: Path, found: str, cause: Exception | None = None) -> NoReturn:
    """A file that is not whole."""
    raise DataError(f"{path} {found}", where=str(path), fix="copy or download it anew, or take it out of the data") from cause


# Containers


def _claim(path: Path) -> _Claim:
    """Walks through the container and tells what it says of its samples.

    Raises:
        DataError: not a file that can be read, not audio, or not whole.
    """
    where, fix = str(path), "give the path of a WAV, FLAC, OGG or MP3 file"
    try:
        if not path.exists():
            raise DataError(f"no such file: {path}", where=where, fix=fix)
        if not path.is_file():  # a pipe would block
            raise DataError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, not audio", where=where, fix=fix)
        with path.open("rb") as file:
            return _claim_in(file, path)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise DataError(message, where=where, fix="make it readable for this user") from error


def _claim_in(file: BinaryIO, path: Path) -> _Claim:
    size = os.fstat(file.fileno()).st_size
    if not size:
        _refuse(path, "is empty: 0 bytes")
    head = file.read(16)
    start = 0
    if head[:3] == b"ID3":  # a tag before the sound, whose size comes in four groups of seven bits
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
    else:
        _refuse_format(head, path)
    if path.suffix.lower() == ".raw":
        message = f"{path} is audio with a header, but soundfile takes every .raw for samples alone"
        raise DataError(message, where=str(path), fix="rename it to .wav, .flac, .ogg or .mp3")
    return claim


def _refuse_format(head: bytes, path: Path) -> NoReturn:
    if head.isascii() and head.decode().isprintable():
        fix = "download the recording itself (`git lfs pull` where it is a Git LFS pointer)"
    else:
        fix = f"convert it (ffmpeg -i {path.name} {path.stem}.flac)"
    raise DataError(f"{path} is not a WAV, FLAC, OGG or MP3 file: it begins with {head!r}", where=str(path), fix=fix)


def _wav_claim(file: BinaryIO, path: Path, size: int) -> _Claim:
    """The samples that the `data` chunk should hold; nothing for a stream, whose writer did not know."""
    order: Literal["little", "big"] = "big" if file.read(12)[:4] == b"RIFX" else "little"
    frame_bytes, long_bytes = 0, 0
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        name, num_bytes, start = head[:4], int.from_bytes(head[4:], order), file.tell()
        if len(head) < 8:
            break
        if name == b"data":
            if num_bytes == 0xFFFF_FFFF:
                num_bytes = long_bytes
                if not num_bytes:
                    return _Claim()
            if num_bytes > size - start:
                _refuse(path, f"is cut off: its samples should take {num_bytes:,} bytes, {size - start:,} are there")
            return _Claim(num_bytes // frame_bytes) if frame_bytes else _Claim()  # without `fmt `, libsndfile refuses it
        if name == b"ds64":  # in files of more than 4 GiB
            long_bytes = int.from_bytes(file.read(16)[8:], order)
        if name == b"fmt ":
            frame_bytes = _wav_frame_bytes(file.read(26), order, path)
        file.seek(start + num_bytes + num_bytes % 2)
    _refuse(path, "is cut off or broken: a WAV header without a 'data' chunk")


def _wav_frame_bytes(fmt: bytes, order: Literal["little", "big"], path: Path) -> int:
    """Bytes that one sample of every channel takes."""
    code, frame_bytes, extended = (int.from_bytes(fmt[at : at + 2], order) for at in (0, 12, 24))
    if code == 0xFFFE:
        code = extended
    if code not in (1, 3, 6, 7):  # whole numbers, floats, A-law, µ-law
        message = f"{path} is a WAV with compressed samples (format {code:#06x}); whole numbers or floats were expected"
        raise DataError(message, where=str(path), fix=f"convert it (ffmpeg -i {path.name} {path.stem}.flac)")
    return frame_bytes


def _flac_claim(file: BinaryIO, path: Path) -> _Claim:
    """Length and checksum; a frame with a wrong checksum of its own is noticed by libFLAC."""
    head = file.read(42)  # the mark, a block header, and the first block: STREAMINFO
    if len(head) < 42 or head[4] & 0x7F:
        _refuse(path, "is cut off or broken: a FLAC header without STREAMINFO")
    frames = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    if not frames:
        message = f"{path} does not say how long it is, as FLAC that was written to a pipe"
        raise DataError(message, where=str(path), fix=f"convert it (ffmpeg -i {path.name} {path.stem}.new.flac)")
    md5 = head[26:42]
    return _Claim(frames, md5=md5 if any(md5) else b"")


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 as Ogg has it: zlib's with the bits of every byte, and of the result, in the other order, and no complements."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _ogg_claim(file: BinaryIO, path: Path) -> _Claim:
    """Nothing beyond what libsndfile reads, but only if every page is there and whole, up to the one that is marked as the last."""
    first, is_last, num_pages = 0, False, 0
    while head := file.read(27):
        if head[:4] != b"OggS"[: len(head)]:
            _refuse(path, f"is broken: no Ogg page where page {num_pages:,} should begin")
        lengths = file.read(head[26]) if len(head) == 27 else b""
        body = file.read(sum(lengths))
        if len(head) < 27 or len(lengths) < head[26] or len(body) < sum(lengths):
            _refuse(path, f"is cut off in Ogg page {num_pages:,}")
        if _ogg_checksum(head[:22] + bytes(4) + head[26:] + lengths + body) != int.from_bytes(head[22:26], "little"):
            _refuse(path, f"is broken: Ogg page {num_pages:,} does not have the checksum that its header gives")
        mark = int.from_bytes(head[14:22], "little")  # the stream's number, then the page's
        first = first if num_pages else mark
        if mark & 0xFFFF_FFFF != first & 0xFFFF_FFFF or is_last:
            message = f"{path} holds several Ogg streams; one was expected"
            raise DataError(message, where=str(path), fix=f"take one out (ffmpeg -i {path.name} -map 0:a:0 {path.stem}.flac)")
        if mark >> 32 != (first >> 32) + num_pages:
            _refuse(path, f"is broken: Ogg page {num_pages:,} is missing")
        is_last = bool(head[5] & 4)
        num_pages += 1
    if not is_last:
        _refuse(path, f"is cut off: the last of its {num_pages:,} Ogg pages is not marked as the last")
    return _Claim()


_MP3_KBPS = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MP3_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By version: 1, 2 and 2.5."""
_MP3_TAGS = (b"TAG", b"APET", b"LYRI", b"ID3")
"""What may follow the last frame."""


def _mp3_claim(file: BinaryIO, path: Path, size: int) -> _Claim:
    """Follows the chain of frames. A Xing header must count them rightly (libsndfile goes by it); without one, they are counted."""
    num_frames, first, promised = 0, 0, 0
    while (head := file.read(4)) and not head.startswith(_MP3_TAGS):
        at = file.tell() - len(head)
        header = int.from_bytes(head, "big")
        first = first or header
        frame_bytes = _mp3_frame_bytes(header)
        if not frame_bytes or len(head) < 4 or (header ^ first) & 0xFFFE_0C00:  # version, layer and rate stay
            _refuse(path, f"is broken: no MP3 frame at byte {at:,}, after {num_frames:,} frames")
        if at + frame_bytes > size:
            _refuse(path, f"is cut off in MP3 frame {num_frames:,}: it should end at byte {at + frame_bytes:,} of {size:,}")
        if not num_frames:
            promised = _xing_frames(file.read(frame_bytes - 4))
        file.seek(at + frame_bytes)
        num_frames += 1
    if not promised:
        per_frame = 1152 if first >> 19 & 1 else 576
        return _Claim(num_frames * per_frame, slack=per_frame)
    if num_frames - 1 != promised:
        _refuse(path, f"is broken: its header promises {promised:,} MP3 frames, {num_frames - 1:,} are there")
    return _Claim()


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


# Resampling


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """The same sound at another rate, by windowed sinc interpolation (`torchaudio.functional.resample`).

    Only the ratio counts, so this also changes speed and pitch: 1.1 times as fast is `resample(samples, 11, 10)`.
    A ratio of large numbers is rounded (see `_resampler`).

    Args:
        samples: (samples,) any length: memory is bounded by input and output, a piece is converted at a time.
        from_hz: rate of `samples`.
        to_hz: rate of the result.

    Returns:
        (samples × to_hz / from_hz, rounded up,)
    """
    convert = _resampler(from_hz, to_hz)
    down, up = int(convert.orig_freq), int(convert.new_freq)
    if down == up:
        return samples
    # `down` samples in are `up` samples out, with the same kernels every time: a period. A kernel reaches `width` samples far.
    result = np.empty(-(-len(samples) * up // down), np.float32)
    reach = -(-int(convert.width) // down)
    num_periods = -(-len(samples) // down)
    step = min(num_periods, max(1, _BLOCK // max(down, up)))
    for first in range(0, num_periods, step):
        start = (first - reach) * down
        piece = torch.zeros((step + 2 * reach) * down)
        inside = samples[max(start, 0) : start + len(piece)]
        piece[max(-start, 0) :][: len(inside)] = torch.tensor(inside)
        fresh = convert(piece)[reach * up : (reach + step) * up].numpy()
        result[first * up : (first + step) * up] = fresh[: len(result) - first * up]
    return result


@lru_cache(maxsize=32)
def _resampler(from_hz: int, to_hz: int) -> Resample:
    """The kernels between two rates.

    They are as many values as the product of the reduced rates, 2.8 GB between 44,101 and 16,000 Hz. Such a ratio is replaced by
    the nearest that takes a million: usually a part in a million off, at worst one in ten thousand. Sound cards are no truer.
    """
    low, high = sorted((from_hz, to_hz))
    ratio = Fraction(low, high).limit_denominator(isqrt(_MAX_KERNEL * high // low))
    if from_hz <= to_hz:
        return Resample(ratio.numerator, ratio.denominator)
    return Resample(ratio.denominator, ratio.numerator)
