"""Audio out of M4A, MP4, MOV, WebM, Matroska and AAC files, through FFmpeg's libraries as the package `av` (PyAV) has them.

These containers say little about how many samples they hold (a browser's recorder says nothing), so samples are counted by decoding
them: a header is never believed. What is cut off is noticed where the container names its length.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.errors import DataError

AV_SUFFIXES = (".m4a", ".mp4", ".mov", ".webm", ".mkv", ".mka", ".aac")

_EBML = b"\x1a\x45\xdf\xa3"
_CUT_SECONDS = 1.0
"""By which less may be decoded than the container promises: streams of one file end at different times."""


def is_av_file(head: bytes) -> bool:
    """Whether a file that begins so is one of these containers: MP4 and its kin, Matroska and WebM, or bare AAC (ADTS)."""
    return head[4:8] == b"ftyp" or head[:4] == _EBML or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0)


class AvStream:
    """The first audio stream of a file, read forwards, in the manner of `soundfile.SoundFile`."""

    subtype = "FLOAT"

    def __init__(self, path: Path, max_seconds: float) -> None:
        self._path = path
        layout = _layout(path)
        self.samplerate, self.channels = layout.rate, layout.channels
        self.frames = 0
        for block in _decode(path):
            self.frames += len(block)
            if self.frames > max_seconds * self.samplerate:
                break  # the caller refuses it
        decoded = self.frames / self.samplerate
        if layout.seconds is not None and decoded < min(layout.seconds, max_seconds) - _CUT_SECONDS:
            message = f"{path} is cut off: it should have {layout.seconds:,.1f} s, {decoded:,.1f} s could be decoded"
            raise DataError(message, where=str(path), fix="copy or download it anew, or take it out of the data")
        self._blocks = _decode(path)
        self._rest = np.zeros((0, self.channels), np.float32)

    def read(self, frames: int, dtype: str, *, always_2d: bool) -> NDArray[np.float32]:
        """The next `(frames, channels)` samples or fewer; none at the end."""
        assert dtype == "float32"
        assert always_2d
        while not len(self._rest):
            block = next(self._blocks, None)
            if block is None:
                return self._rest
            self._rest = block
        taken, self._rest = self._rest[:frames], self._rest[frames:]
        return taken


class _Layout(NamedTuple):
    rate: int
    channels: int
    seconds: float | None


def _layout(path: Path) -> _Layout:
    av = _import_av(path)
    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container, path)
            seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
            if seconds is None and container.duration is not None and not container.streams.video:
                seconds = container.duration / 1_000_000
            return _Layout(stream.codec_context.sample_rate, stream.codec_context.channels, seconds)
    except av.FFmpegError as error:
        raise _broken(path, 0.0, error) from error


def _decode(path: Path) -> Iterator[NDArray[np.float32]]:
    """Pieces `(n, channels)` of the first audio stream."""
    av = _import_av(path)
    seconds = 0.0
    try:
        with av.open(str(path)) as container:
            stream = _audio_stream(container, path)
            resampler = av.AudioResampler(format="flt")  # interleaved floats, whatever the codec gives
            for frame in container.decode(stream):
                for piece in resampler.resample(frame):
                    yield _samples(piece)
                    seconds += piece.samples / piece.sample_rate
            for piece in resampler.resample(None):
                yield _samples(piece)
    except av.FFmpegError as error:
        raise _broken(path, seconds, error) from error


def _samples(frame: Any) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
    return samples


def _audio_stream(container: Any, path: Path) -> Any:
    if not container.streams.audio:
        raise DataError(f"{path} has no audio", where=str(path), fix="give a file with audio, or take it out of the data")
    return container.streams.audio[0]


def _broken(path: Path, seconds: float, error: Exception) -> DataError:
    place = f"after {seconds:,.1f} s" if seconds else "from its beginning"
    fix = "copy or download it anew, or take it out of the data"
    return DataError(f"{path} is broken {place}: {getattr(error, 'strerror', None) or error}", where=str(path), fix=fix)


def _import_av(path: Path) -> Any:
    try:
        return import_module("av")
    except ImportError as error:
        fix = f"pip install 'omnictl[av]', or convert it (ffmpeg -i {path.name} {path.stem}.flac)"
        raise DataError(f"{path}: reading {path.suffix or 'this format'} needs the package av", where=str(path), fix=fix) from error
