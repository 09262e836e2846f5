"""What frozen encoders make of a split's images and recordings: made once, kept in the cache, memory-mapped afterwards."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from omnictl.data.manifest.cache import flush, read_or_build
from omnictl.features.media_encoders import Inputs, MediaEncoder, Raw
from omnictl.progress import log_progress

_FORMAT = 1

AT_ONCE = 64
"""Inputs encoded side by side, of similar length."""

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class FrozenFeatures:
    """Images or recordings as the features that a frozen encoder made of them."""

    inputs: Inputs
    grid: tuple[int, int] | None
    frames: NDArray[Any]
    """(N, width) fp16, memory-mapped: all inputs one after the other."""
    bounds: Int64
    """(number of inputs + 1,)"""

    def count(self, number: int) -> int:
        """Features of one; 0 if it cannot be read."""
        return self.inputs.count(number)

    def value(self, number: int) -> NDArray[np.float32]:
        """These features, `(n, width)`, or what an encoder makes them of."""
        return self.frames[self.bounds[number] : self.bounds[number + 1]].astype(np.float32)

    def num_features(self, value: NDArray[Any]) -> int:
        """Features that a value is, or will be."""
        return len(value)

    def flaw(self, number: int) -> str | None:
        """Why one cannot be read, if it cannot."""
        return self.inputs.flaw(number)


@dataclass(frozen=True)
class EncoderInputs:
    """Images or recordings as they are, for an encoder that is trained along."""

    inputs: Inputs
    encoder: MediaEncoder

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of features, of what has them."""
        return self.encoder.grid

    def count(self, number: int) -> int:
        """Features of one; 0 if it cannot be read."""
        return self.inputs.count(number)

    def value(self, number: int) -> Raw:
        """These features, `(n, width)`, or what an encoder makes them of."""
        return self.inputs.raw(number)

    def num_features(self, value: Raw) -> int:
        """Features that a value is, or will be."""
        return self.encoder.count(value)

    def flaw(self, number: int) -> str | None:
        """Why one cannot be read, if it cannot."""
        return self.inputs.flaw(number)


def perceive(encoder: MediaEncoder, inputs: Inputs, cache: Path, what: str) -> FrozenFeatures:
    """The features of all inputs, from the cache if they were made before.

    Args:
        encoder: in eval mode.
        inputs: of a split.
        cache: folder of the cache.
        what: for notes of progress: "looking at images".

    Raises:
        DataError: the cache cannot be written.
        DiskFull: no space left for it.
    """
    counts = [inputs.count(number) for number in range(len(inputs))]
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    digest = hashlib.sha256(repr((_FORMAT, inputs.fingerprint, len(inputs))).encode())
    assert isinstance(encoder, nn.Module)
    digest.update(save({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}))
    folder = cache / "perceived" / digest.hexdigest()[:32]
    shape = (int(bounds[-1]), encoder.width)
    frames = read_or_build(folder, partial(_read, shape=shape), partial(_write, encoder, inputs, bounds, what))
    return FrozenFeatures(inputs, encoder.grid, frames, bounds)


def _read(folder: Path, shape: tuple[int, int]) -> NDArray[Any] | None:
    file = folder / "frames.bin"
    if not file.is_file() or file.stat().st_size != 2 * shape[0] * shape[1]:
        return None
    return np.memmap(file, np.float16, "r", shape=shape) if shape[0] else np.empty(shape, np.float16)


def _write(encoder: MediaEncoder, inputs: Inputs, bounds: Int64, what: str, folder: Path) -> None:
    file = folder / "frames.bin"
    shape = (int(bounds[-1]), encoder.width)
    if not shape[0]:
        file.touch()
        return
    frames = np.memmap(file, np.float16, "w+", shape=shape)
    usable = [number for number in np.argsort(np.diff(bounds), kind="stable").tolist() if bounds[number + 1] > bounds[number]]
    runs = (usable[start : start + AT_ONCE] for start in range(0, len(usable), AT_ONCE))
    for numbers, arrays in log_progress(_encode(encoder, inputs, runs), what, -(-len(usable) // AT_ONCE)):
        for number, features in zip(numbers, arrays, strict=True):
            frames[bounds[number] : bounds[number + 1]] = features
    frames.flush()
    with file.open("rb+") as opened:
        flush(opened)


def _encode(
    encoder: MediaEncoder, inputs: Inputs, runs: Iterator[Sequence[int]]
) -> Iterator[tuple[Sequence[int], list[NDArray[np.float32]]]]:
    for numbers in runs:
        raws: list[Raw] = [inputs.raw(number) for number in numbers]
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # whatever the caller computes in
            yield numbers, [features.float().cpu().numpy() for features in encoder(raws)]
