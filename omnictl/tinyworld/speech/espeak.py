"""Speech from espeak-ng, in blocks: the same block of requests gives the same audio to the bit, on every machine of a kind."""

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.errors import DataError

_CHILD = Path(__file__).with_name("espeak_child.py")


@dataclass(frozen=True)
class Request:
    """A text and how to say it."""

    text: str
    voice: str
    rate: int
    """Words a minute."""
    pitch: int
    """0 to 99; 50 is the voice's own."""


class SpeechBlock(NamedTuple):
    """The audio of a block of requests."""

    rate: int
    """Samples a second."""
    samples: list[NDArray[np.int16]]
    """One array (n,) for each request."""


def voice_variants() -> list[str]:
    """What may follow a voice's name and a plus sign: `f2`, `m3`, `whisper`."""
    import espeakng_loader  # noqa: PLC0415  only needed by who speaks

    return sorted(file.name for file in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir())


def speak(requests: Sequence[Request]) -> SpeechBlock:
    """Say a block of texts in order, in a fresh process.

    Raises:
        DataError: espeak-ng cannot run here, or has no such voice.
    """
    import espeakng_loader  # noqa: PLC0415  only needed by who speaks

    job = {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
        "requests": [asdict(request) for request in requests],
    }
    command = [sys.executable, "-I", str(_CHILD)]
    child = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=False)
    if child.returncode != 0:
        error_lines = child.stderr.decode(errors="replace").strip().splitlines()
        raise DataError(
            f"espeak-ng failed (exit code {child.returncode}): {error_lines[-1] if error_lines else 'no error message'}",
            where="data.source",
            fix="reinstall it with `pip install --force-reinstall espeakng-loader`, or train on recordings with --data PATH",
        )
    return _unpack(child.stdout, len(requests))


def _unpack(stream: bytes, count: int) -> SpeechBlock:
    (rate,) = struct.unpack_from("<I", stream)
    samples, place = [], 4
    for _ in range(count):
        (length,) = struct.unpack_from("<I", stream, place)
        samples.append(np.frombuffer(stream, "<i2", length, place + 4))
        place += 4 + 2 * length
    assert place == len(stream)
    return SpeechBlock(rate, samples)
