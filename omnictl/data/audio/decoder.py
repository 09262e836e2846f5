"""Reads recordings out of WAV, FLAC, OGG (Vorbis, Opus) and MP3 files, and out of M4A, MP4 and WebM (`av_decoder`), as one channel
of float32 samples.

libsndfile decodes. It is generous, though: it shortens a cut WAV to what is there, gives an Ogg file that lost its last byte no
samples at all, plays over missing Ogg pages, stops where a FLAC header says even if there is more, and guesses the length of an
MP3 without a Xing header (by half, in our tests). A training set must not lose words that way, so what the container claims is
read first (see `headers`), and held against what is decoded. What does not add up is a `DataError`, never silence or a part.

What cannot be noticed: changed bits in the samples of a WAV, or inside the frames of an MP3, which carry no checksum.
Left out on purpose: WAVs with compressed samples.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from omnictl.data.audio.av_decoder import AvStream
from omnictl.data.audio.headers import Claim, read_claim, refuse
from omnictl.data.audio.resample import resample, resample_blocks
from omnictl.errors import DataError

MAX_SECONDS = 3600.0
"""Longest recording that is read, unless the caller says otherwise."""
MIN_HZ = 1_000
MAX_HZ = 384_000
MAX_CHANNELS = 32
MAX_LEVEL = 10.0
"""20 dB above full scale. Mixes in float files peak above 1; samples beyond 10 were never scaled from whole numbers."""

WHOLE_FRAMES = 1 << 24
"""Frames up to which a recording is decoded before it is resampled."""

_BLOCK = 1 << 18
"""Samples, over all channels, that are decoded at once."""


class AudioInfo(NamedTuple):
    """What the header says of a recording."""

    seconds: float
    rate: int
    """In Hz."""
    channels: int
    frames: int
    """Samples a channel."""


class _Sequential(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A file that is only read forwards.

    `SoundFile` seeks after every read. In MP3 and Opus that starts the decoder anew (other values, and libmpg123 complains on
    standard error), in a broken FLAC it hides what is wrong.
    """

    def seekable(self) -> Literal[False]:
        return False


def probe_audio(path: Path, *, max_seconds: float = MAX_SECONDS) -> AudioInfo:
    """Length, rate and channels of a recording, from its headers; nothing is decoded.

    Raises:
        DataError: not there, not audio, not whole, without samples, or out of bounds.
    """
    with _open(path, max_seconds) as (_, info, _):
        return info


def read_audio(path: Path, *, rate: int, max_seconds: float = MAX_SECONDS) -> NDArray[np.float32]:
    """A recording as one channel, the mean of its channels.

    Args:
        path: a WAV, FLAC, OGG, MP3, M4A, MP4 or WebM file, recognised by its content.
        rate: of the result, in Hz.
        max_seconds: what is longer by its header is refused before anything is decoded.

    Returns:
        (samples,) in [-1, 1]; a file of floats may peak a little above, and is left so.

    Raises:
        DataError: not there, not audio, not whole, without samples, out of bounds, or samples far out of range or not finite.
    """
    with _open(path, max_seconds) as (audio, info, claim):
        blocks = _decode_blocks(audio, info, claim, path)
        if info.frames > WHOLE_FRAMES:  # so many at 192 kHz would take gigabytes
            counted = _Counted(blocks)
            resampled = resample_blocks(iter(counted), info.frames, info.rate, rate)
            return resampled if counted.count == info.frames else resampled[: -(-counted.count * rate // info.rate)]
        samples = np.concatenate(list(blocks))
    return resample(samples, info.rate, rate)


class _Counted:
    """Blocks, and how many samples they had."""

    def __init__(self, blocks: Iterator[NDArray[np.float32]]) -> None:
        self._blocks, self.count = blocks, 0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks:
            self.count += len(block)
            yield block


@contextmanager
def stream_audio(path: Path, *, max_seconds: float = MAX_SECONDS) -> Iterator[tuple[AudioInfo, Iterator[NDArray[np.float32]]]]:
    """A recording as one channel at its own rate, a piece at a time, and what its header says.

    Raises:
        DataError: as `read_audio` raises; what is not whole is noticed at the end.
    """
    with _open(path, max_seconds) as (audio, info, claim):
        yield info, _decode_blocks(audio, info, claim, path)


@contextmanager
def _open(path: Path, max_seconds: float) -> Iterator[tuple[_Sequential | AvStream, AudioInfo, Claim]]:
    claim = read_claim(path)
    if claim.library == "FFmpeg":
        stream = AvStream(path, max_seconds)
        info = AudioInfo(stream.frames / stream.samplerate, stream.samplerate, stream.channels, stream.frames)
        _check_bounds(info, path, max_seconds)
        yield stream, info, claim
        return
    try:
        audio = _Sequential(os.fsencode(path) if os.name == "posix" else str(path))
    except soundfile.LibsndfileError as error:
        fix = f"copy or download it anew, or convert it (ffmpeg -i {path.name} {path.stem}.new.flac)"
        raise DataError(f"{path} cannot be opened as audio: {_words(error)}", where=str(path), fix=fix) from error
    with audio:
        frames = audio.frames if claim.frames is None else claim.frames
        info = AudioInfo(frames / max(audio.samplerate, 1), audio.samplerate, audio.channels, frames)
        _check_bounds(info, path, max_seconds)
        if audio.frames < frames - claim.slack:
            message = f"{path} holds {frames:,} samples a channel, of which libsndfile would read {audio.frames:,}"
            fix = f"its length is not in its header: convert it (ffmpeg -i {path.name} {path.stem}.flac)"
            raise DataError(message, where=str(path), fix=fix)
        yield audio, info, claim


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


def _decode_blocks(audio: _Sequential | AvStream, info: AudioInfo, claim: Claim, path: Path) -> Iterator[NDArray[np.float32]]:
    """(n,) pieces of the mean of the channels, at the file's own rate; what does not add up is an error after the last."""
    num_frames = 0
    digest = hashlib.md5(usedforsecurity=False)
    while num_frames <= info.frames:
        try:
            block = audio.read(max(1, _BLOCK // info.channels), dtype="int32" if claim.md5 else "float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            seconds = num_frames / info.rate
            refuse(path, f"is broken after {seconds:,.1f} of {info.seconds:,.1f} s: {_words(error)}", error)
        if not len(block):
            break
        if claim.md5:
            digest.update(_pack(cast("NDArray[np.int32]", block), audio.subtype))
            block = block.astype(np.float32) / 2**31
        _check_level(block, num_frames / info.rate, path)
        num_frames += len(block)
        yield block.mean(axis=1)  # (frames, channels) -> (frames,)
    if not info.frames - claim.slack <= num_frames <= info.frames:
        refuse(path, f"is broken: its header promises {info.frames:,} frames, {num_frames:,} could be decoded")
    if claim.md5 and digest.digest() != claim.md5:
        refuse(path, "is broken: its samples do not have the checksum that its header gives")


def wav_bytes(samples: NDArray[np.float32], rate: int) -> bytes:
    """`(n,)` samples in [-1, 1] as a WAV file of 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _pack(block: NDArray[np.int32], subtype: str) -> bytes:
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
        fix = "write it anew within that (whole numbers of 16 bits are divided by 32768), or take it out of the data"
        raise DataError(message, where=str(path), fix=fix)
    message = f"{path} has samples that are not finite numbers after {seconds:,.1f} s"
    raise DataError(message, where=str(path), fix="write it anew without NaN and infinity, or take it out of the data")


def _words(error: soundfile.LibsndfileError) -> str:
    """libsndfile's message, without its prefix."""
    return str(error.error_string).removeprefix("Error : ").rstrip(".")
