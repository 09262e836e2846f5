"""Log-mel features on disk: computed once from a corpus's recordings, then memory-mapped by every run that asks for the same.

A store is a folder of the cache with `frames.bin` (fp16), `bounds.bin` and `meta.json`.
"""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnictl.config.split import Split
from omnictl.data.audio.resample import resample
from omnictl.data.manifest.cache import flush, read_or_build
from omnictl.data.speech.corpus import BLOCK, SpeechCorpus
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig, log_mel
from omnictl.nn.step_threads import one_thread
from omnictl.progress import log_progress

_FORMAT = 1

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class FeatureStore:
    """Features of every utterance of a split, at one speed."""

    frames: NDArray[Any]
    """(N, F) fp16, memory-mapped: all utterances one after the other."""
    bounds: Int64
    """(number of utterances + 1,); an utterance whose audio cannot be read has no frames."""
    broken: dict[int, str]
    """What is wrong with each of those."""
    fingerprint: str
    """Over the recordings and how they became features."""

    @property
    def lengths(self) -> Int64:
        """Frames of each utterance."""
        return np.diff(self.bounds)

    def features(self, number: int) -> NDArray[np.float32]:
        """`(T, F)` features of an utterance."""
        return self.frames[self.bounds[number] : self.bounds[number + 1]].astype(np.float32)


def open_features(corpus: SpeechCorpus, split: Split, mel: MelConfig, cache: Path, *, speed: float = 1.0) -> FeatureStore:
    """The features of a split, computed now if the cache does not have them or has them damaged.

    Args:
        corpus: the recordings.
        split: which of them.
        mel: how they become features.
        cache: the cache folder.
        speed: 1.1 plays every recording a tenth faster (and higher), as Ko et al. 2015 vary speech.

    Raises:
        DataError: the split is empty, or the cache cannot be written.
        DiskFull: no space left for it.
    """
    key = repr((_FORMAT, corpus.fingerprint, split, mel, speed))
    folder = cache / "features" / sha256(key.encode()).hexdigest()[:32]
    return read_or_build(folder, partial(_read, bins=mel.bins), partial(_write, corpus, split, mel, speed))


def _read(folder: Path, bins: int) -> FeatureStore | None:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in ("frames.bin", "bounds.bin")}
    except (OSError, ValueError):
        return None
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT or meta["sizes"] != sizes:
        return None
    frames = np.memmap(folder / "frames.bin", np.float16, "r").reshape(-1, bins) if sizes["frames.bin"] else np.empty((0, bins))
    return FeatureStore(
        frames=frames,
        bounds=np.fromfile(folder / "bounds.bin", dtype=np.int64),
        broken={int(number): message for number, message in meta["broken"].items()},
        fingerprint=folder.name,
    )


def _write(corpus: SpeechCorpus, split: Split, mel: MelConfig, speed: float, folder: Path) -> None:
    count = len(corpus.recordings(split))
    lengths: list[int] = []
    broken: dict[int, str] = {}
    num_bytes = 0
    with (folder / "frames.bin").open("wb") as file:
        computed = _all_features(corpus, split, mel, speed, count)
        for features in log_progress(computed, f"features of the {split} split", count, "utterances"):
            if isinstance(features, DataError):
                broken[len(lengths)] = features.message
                lengths.append(0)
            else:
                lengths.append(len(features))
                num_bytes += file.write(features.tobytes())
        flush(file)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    with (folder / "bounds.bin").open("wb") as file:
        file.write(bounds.tobytes())
        flush(file)
    sizes = {"frames.bin": num_bytes, "bounds.bin": bounds.nbytes}
    (folder / "meta.json").write_text(json.dumps({"format": _FORMAT, "sizes": sizes, "broken": broken}), encoding="utf-8")


Features = NDArray[np.float16]


def _all_features(corpus: SpeechCorpus, split: Split, mel: MelConfig, speed: float, count: int) -> Iterator["Features | DataError"]:
    """Features of all utterances in order, blocks computed side by side on all cores."""

    def of_block(block: int) -> Sequence[Features | DataError]:
        recordings = corpus.samples(split, block, mel.sample_rate)
        return [audio if isinstance(audio, DataError) else _features(audio, mel, speed) for audio in recordings]

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with one_thread():  # the blocks keep the cores busy; threads within them would only get in each other's way
            for block in pool.map(of_block, range(-(-count // BLOCK))):
                yield from block
    finally:
        pool.shutdown(cancel_futures=True)


def _features(audio: NDArray[np.float32], mel: MelConfig, speed: float) -> Features:
    if speed != 1:
        audio = resample(audio, round(mel.sample_rate * speed), mel.sample_rate)
    return log_mel(audio, mel).numpy().astype(np.float16)
