"""Speech in the formats that clients ask for, piece by piece.

`pcm` is what OpenAI's API calls so: 16 bits, little-endian, mono, 24 kHz, without a header; the others keep the voice's own rate,
Opus and MP3 the next that they know.
A WAV that is sent before it is finished does not say how long it is, as writers to a pipe have it. FLAC and MP3 come in one piece
at the end: their length stands at the beginning, and not every reader forgives one that is missing. libsndfile encodes.
"""

import io
from typing import Literal

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]

from omnictl.data.audio.resample import ResampleStream
from omnictl.data.speech.corpus import Samples

AudioFormat = Literal["wav", "pcm", "pcm16", "flac", "mp3", "opus"]

PCM_HZ = 24_000
"""Of raw samples, in and out."""

MEDIA_TYPES: dict[AudioFormat, str] = {
    "wav": "audio/wav",
    "pcm": f"audio/pcm;rate={PCM_HZ};channels=1",
    "pcm16": f"audio/pcm;rate={PCM_HZ};channels=1",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg;codecs=opus",
}

_RATES: dict[AudioFormat, tuple[int, ...]] = {
    "mp3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "opus": (8_000, 12_000, 16_000, 24_000, 48_000),
}
"""The only ones, in Hz, of formats that do not take any."""

_CONTAINERS = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}


def pcm_bytes(samples: Samples) -> bytes:
    """Samples in [-1, 1] as 16 bits, little-endian."""
    return (np.clip(samples, -1, 1) * 32_767).round().astype("<i2").tobytes()


def samples_of_pcm(data: bytes) -> Samples:
    """`(n,)` samples in [-1, 1) of 16 bits, little-endian."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)


class SpeechEncoder:
    """Samples in, bytes of a file out.

    Args:
        audio_format: of the file.
        rate: of the samples, in Hz.
    """

    def __init__(self, audio_format: AudioFormat, rate: int) -> None:
        self._encoder: _Pcm | _Container
        if audio_format in _CONTAINERS:
            rates = _RATES.get(audio_format, (rate,))
            to_hz = next((hz for hz in rates if hz >= rate), rates[-1])
            self._encoder = _Container(*_CONTAINERS[audio_format], ResampleStream(rate, to_hz), to_hz)
        else:
            self._encoder = _Pcm(rate, None if audio_format == "wav" else PCM_HZ)

    def push(self, samples: Samples) -> bytes:
        """Take `(n,)` samples; gives the bytes that are final now."""
        return self._encoder.push(samples)

    def finish(self) -> bytes:
        """The bytes that are left."""
        return self._encoder.finish()


class _Pcm:
    """Samples of 16 bits at another rate, or at their own behind the header of a WAV of unknown length."""

    def __init__(self, rate: int, to_hz: int | None) -> None:
        self._resample = ResampleStream(rate, to_hz or rate)
        self._head = b"" if to_hz else _endless_wav_header(rate)

    def push(self, samples: Samples) -> bytes:
        head, self._head = self._head, b""
        return head + pcm_bytes(self._resample.push(samples))

    def finish(self) -> bytes:
        return self._head + pcm_bytes(self._resample.finish())


class _Container:
    """A file of libsndfile: an Ogg as it is written, others when they are finished."""

    def __init__(self, container: str, subtype: str, resample: ResampleStream, rate: int) -> None:
        self._resample = resample
        self._buffer = io.BytesIO()
        self._sent = 0
        self._streams = container == "OGG"
        self._file = soundfile.SoundFile(self._buffer, "w", rate, 1, subtype=subtype, format=container)

    def push(self, samples: Samples) -> bytes:
        self._file.write(self._resample.push(samples))
        return self._fresh() if self._streams else b""

    def finish(self) -> bytes:
        self._file.write(self._resample.finish())
        self._file.close()
        return self._fresh()

    def _fresh(self) -> bytes:
        fresh = self._buffer.getvalue()[self._sent :]
        self._sent += len(fresh)
        return fresh


def _endless_wav_header(rate: int) -> bytes:
    """44 bytes before mono samples of 16 bits; sizes of all ones, as writers to a pipe have them."""
    unknown = b"\xff\xff\xff\xff"
    form = (1).to_bytes(2, "little") + (1).to_bytes(2, "little") + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little")
    return b"RIFF" + unknown + b"WAVEfmt " + (16).to_bytes(4, "little") + form + b"\x02\x00\x10\x00" + b"data" + unknown
