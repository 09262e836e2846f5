"""Writes audio files for tests, breaks them, and sees them refused.

As a program, `python audio_files.py COUNT FOLDER` reads COUNT mutated files of every format, each format in a process of its own: a
crash in native code is seen as its exit code, and its memory can be limited. It prints the exit codes and the reports as JSON.
"""

import json
import multiprocessing
import random
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from mutated_files import mutated, read_broken
from numpy.typing import NDArray

if TYPE_CHECKING:
    from omnictl.errors import DataError

NOISE = (0.1 * np.random.default_rng(0).standard_normal(8_000)).astype(np.float32)
ANEW = "copy or download it anew, or take it out of the data"
"""The fix for a file that is not whole."""

SUBTYPES = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""libsndfile's format and subtype, by suffix."""


def sine(hz: float, *, rate: int, seconds: float = 0.5, level: float = 0.5) -> NDArray[np.float32]:
    """(samples,)"""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write_audio(path: Path, samples: NDArray[np.float32], rate: int, **options) -> Path:
    """In the format of the suffix; `samples`: (frames,) or (frames, channels)."""
    kind, subtype = SUBTYPES[path.suffix[1:]]
    soundfile.write(path, samples, rate, **({"format": kind, "subtype": subtype} | options))
    return path


def wav(
    path: Path, data: bytes, *, channels: int = 1, rate: int = 16_000, bits: int = 16, code: int = 1, num_bytes: int | None = None
) -> Path:
    """A WAV as its header says it."""
    align = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, code, channels, rate, rate * align, align, bits)
    num_bytes = len(data) if num_bytes is None else num_bytes
    path.write_bytes(b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + fmt + b"data" + struct.pack("<I", num_bytes) + data)
    return path


def patched(path: Path, at: int, replacement: bytes) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[:at] + replacement + data[at + len(replacement) :])
    return path


def ogg_pages(data: bytes) -> list[bytes]:
    pages = []
    while data:
        end = 27 + data[26] + sum(data[27 : 27 + data[26]])
        pages.append(data[:end])
        data = data[end:]
    return pages


def with_checksums(data: bytes) -> bytes:
    """The Ogg file with true checksums, as far as it consists of pages: so that what is broken reaches the decoder."""
    from omnictl.data.audio.headers import _ogg_checksum

    whole = b""
    while len(data) >= 27 and len(data) >= 27 + data[26]:
        page = ogg_pages(data[: 27 + data[26] + sum(data[27 : 27 + data[26]])])[0]
        whole += page[:22] + _ogg_checksum(page[:22] + bytes(4) + page[26:]).to_bytes(4, "little") + page[26:]
        data = data[len(page) :]
    return whole + data


def far(one: NDArray[np.float32], other: NDArray[np.float32], edge: int = 0) -> float:
    """Greatest difference, leaving out the edges, where filters have too little to go by."""
    return float(np.abs(one - other)[edge : len(one) - edge].max())


def complaint(call: Callable[..., object], path: Path, **options: float) -> "DataError | None":
    from omnictl.errors import DataError

    try:
        call(path, **options)
    except DataError as error:
        return error
    return None


def refused(path: Path, **bounds: float) -> "DataError":
    """What `read_audio` says; `probe_audio` says it too, or lets the file pass."""
    from omnictl.data.audio.decoder import probe_audio, read_audio

    error, probed = complaint(partial(read_audio, rate=16_000), path, **bounds), complaint(probe_audio, path, **bounds)
    assert error is not None
    assert error.where == str(path)
    assert probed is None or str(probed) == str(error)
    return error


def read_mutated(suffix: str, count: int, folder: Path) -> None:
    """Leaves a report in the folder, and the last file."""
    from omnictl.data.audio.decoder import read_audio

    path = write_audio(folder / f"file.{suffix}", sine(440, rate=16_000, seconds=0.25), 16_000)
    whole = path.read_bytes()
    read_audio(path, rate=24_000)  # everything is loaded before memory is measured

    def write(number: int) -> Callable[[], None]:
        data = mutated(whole, random.Random(f"{suffix} {number}"))
        path.write_bytes(with_checksums(data) if suffix in ("ogg", "opus") and number % 2 else data)
        return read

    def read() -> None:
        samples = read_audio(path, rate=24_000)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert len(samples) > 0
        assert np.isfinite(samples).all()

    (folder / f"{suffix}.json").write_text(json.dumps(read_broken(path, count, write)))


def main(count: int, folder: Path) -> None:
    import torch

    import omnictl.data.audio.decoder  # noqa: F401  loaded once, before the processes part

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    processes = {suffix: fork.Process(target=read_mutated, args=(suffix, count, folder)) for suffix in SUBTYPES}
    for process in processes.values():
        process.start()
    results = {}
    for suffix, process in processes.items():
        process.join()
        report = folder / f"{suffix}.json"
        results[suffix] = {"exit_code": process.exitcode} | (json.loads(report.read_text()) if report.exists() else {})
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
