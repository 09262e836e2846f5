"""Features on disk: computed once, the same however they are computed, and honest about recordings that cannot be read."""

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from omnictl import progress
from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech import log_mels
from omnictl.data.speech.corpus import Recording, Samples
from omnictl.data.speech.log_mels import FeatureStore, open_features
from omnictl.errors import DataError, DiskFull
from omnictl.nn.audio.mel import MelConfig, log_mel

MEL = MelConfig(bins=20)
BLOCK = 3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_mels, "BLOCK", BLOCK)


def hum(number: int) -> Samples:
    """A noisy tone, another one for each number, from 0.1 s on."""
    rng = np.random.default_rng(number)
    time = np.arange(1_600 + 321 * number) / MEL.sample_rate
    return (np.sin(2 * np.pi * (200 + 50 * number) * time) + 0.1 * rng.standard_normal(len(time))).astype(np.float32)


@dataclass
class Hums:
    """A corpus that counts the blocks it was asked for."""

    recordings_of: list[Samples | DataError]
    fingerprint: str = "f" * 64
    name: str = "here"
    broken: Sequence[BrokenRow] = ()
    asked: list[int] = field(default_factory=list)

    def recordings(self, split: Split) -> Sequence[Recording]:
        return [Recording(f"{number}", "one", None, "here", None) for number in range(len(self.recordings_of))]

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        assert rate == MEL.sample_rate
        self.asked.append(block)
        return iter(self.recordings_of[block * BLOCK : (block + 1) * BLOCK])


@pytest.fixture
def corpus() -> Hums:
    return Hums([hum(number) for number in range(7)])


def content(store: FeatureStore) -> tuple[bytes, list[int], dict[int, str]]:
    return store.frames.tobytes(), store.bounds.tolist(), store.broken


def stored(cache: Path) -> Path:
    """The folder of the only store."""
    (folder,) = (path.parent for path in cache.rglob("frames.bin"))
    return folder


def names_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock" and path.name != "features")


def test_features_come_back_in_half_precision(corpus: Hums, tmp_path: Path) -> None:
    store = open_features(corpus, "train", MEL, tmp_path)
    assert isinstance(store.frames, np.memmap)
    assert store.frames.dtype == np.float16
    assert store.lengths.tolist() == [1 + len(audio) // MEL.hop for audio in map(hum, range(7))]
    assert store.broken == {}
    for number in range(7):
        found = store.features(number)
        assert found.dtype == np.float32
        assert np.array_equal(found, log_mel(hum(number), MEL).numpy().astype(np.float16))


def test_features_taken_are_ones_own(corpus: Hums, tmp_path: Path) -> None:
    store = open_features(corpus, "train", MEL, tmp_path)
    before = store.features(2)
    store.features(2)[:] = 0
    assert np.array_equal(store.features(2), before)


def test_a_second_open_reads_the_cache(corpus: Hums, tmp_path: Path) -> None:
    first = content(open_features(corpus, "train", MEL, tmp_path))
    assert sorted(corpus.asked) == [0, 1, 2]
    assert content(open_features(corpus, "train", MEL, tmp_path)) == first
    assert len(corpus.asked) == 3


def test_whatever_makes_other_features_has_a_store_of_its_own(corpus: Hums, tmp_path: Path) -> None:
    open_features(corpus, "train", MEL, tmp_path)
    open_features(corpus, "val", MEL, tmp_path)
    open_features(corpus, "train", MEL, tmp_path, speed=1.1)
    open_features(corpus, "train", MelConfig(bins=20, low_hz=30), tmp_path)
    corpus.fingerprint = "e" * 64
    open_features(corpus, "train", MEL, tmp_path)
    assert len(corpus.asked) == 5 * 3


def truncate(folder: Path) -> None:
    with (folder / "frames.bin").open("r+b") as file:
        file.truncate(50)


def forget_bounds(folder: Path) -> None:
    (folder / "bounds.bin").unlink()


def shorten_bounds(folder: Path) -> None:
    (folder / "bounds.bin").write_bytes((folder / "bounds.bin").read_bytes()[:-8])


def break_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("{")


def forget_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def confuse_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("[]")


def age(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 0}))


@pytest.mark.parametrize("damage", [truncate, forget_bounds, shorten_bounds, break_meta, forget_meta, confuse_meta, age])
def test_a_damaged_store_is_built_again(corpus: Hums, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    expected = content(open_features(corpus, "train", MEL, tmp_path))
    damage(stored(tmp_path))
    assert content(open_features(corpus, "train", MEL, tmp_path)) == expected
    assert len(corpus.asked) == 6


def test_a_recording_that_cannot_be_read_has_no_frames_and_a_reason(corpus: Hums, tmp_path: Path) -> None:
    corpus.recordings_of[1] = DataError("1.wav is cut off", fix="copy it anew")
    corpus.recordings_of[6] = DataError("6.wav is empty: 0 bytes", fix="copy it anew")
    for _ in range(2):  # made, then read
        store = open_features(corpus, "train", MEL, tmp_path)
        assert store.broken == {1: "1.wav is cut off", 6: "6.wav is empty: 0 bytes"}
        assert np.flatnonzero(store.lengths == 0).tolist() == [1, 6]
        assert store.features(1).shape == (0, 20)
        assert np.array_equal(store.features(2), log_mel(hum(2), MEL).numpy().astype(np.float16))
    assert len(corpus.asked) == 3


def test_a_corpus_without_audio_is_a_store_too(tmp_path: Path) -> None:
    corpus = Hums([DataError("no audio", fix="copy it anew")] * 2)
    for _ in range(2):
        store = open_features(corpus, "train", MEL, tmp_path)
        assert store.lengths.tolist() == [0, 0]
        assert store.features(1).shape == (0, 20)
    assert corpus.asked == [0]


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_another_speed_makes_recordings_shorter_and_higher(speed: float, tmp_path: Path) -> None:
    seconds, hertz = 2.0, 1_000
    tone = np.sin(2 * np.pi * hertz * np.arange(round(seconds * MEL.sample_rate)) / MEL.sample_rate).astype(np.float32)
    mel = MelConfig()
    plain, changed = (open_features(Hums([tone]), "train", mel, tmp_path, speed=each) for each in (1.0, speed))
    assert changed.lengths[0] == pytest.approx(plain.lengths[0] / speed, abs=1)
    expected = np.sin(2 * np.pi * speed * hertz * np.arange(round(seconds / speed * mel.sample_rate)) / mel.sample_rate)
    bins = [frames[50].argmax() for frames in (changed.features(0), log_mel(expected.astype(np.float32), mel).numpy())]
    assert bins[0] == bins[1] != plain.features(0)[50].argmax()


@pytest.mark.parametrize("speed", [1.0, 1.1])
def test_threads_change_nothing(speed: float, corpus: Hums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block is the last to be ready."""
    used: set[str] = set()
    really = corpus.samples

    def slow(split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        used.add(threading.current_thread().name)
        time.sleep(0.1 if block == 0 else 0.02)
        return really(split, block, rate)

    monkeypatch.setattr(corpus, "samples", slow)
    found = []
    for count in (1, 3):
        used.clear()
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        found.append(content(open_features(corpus, "train", MEL, tmp_path / str(count), speed=speed)))
        assert (len(used) > 1) == (count > 1)
    assert found[0] == found[1]


def test_the_number_of_torch_threads_is_given_back(corpus: Hums, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        open_features(corpus, "train", MEL, tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_corpus_that_breaks_leaves_nothing(corpus: Hums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        if block == 1:
            raise DataError("espeak-ng failed", fix="reinstall it")
        return iter(corpus.recordings_of[:BLOCK])

    monkeypatch.setattr(corpus, "samples", broken)
    with pytest.raises(DataError, match="espeak-ng failed"):
        open_features(corpus, "train", MEL, tmp_path)
    assert names_below(tmp_path) == []


def test_full_disk(corpus: Hums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFull) as error:
        open_features(corpus, "train", MEL, tmp_path)
    assert error.value.message == f"no space left for the cache in {tmp_path / 'features'}"
    assert "OMNICTL_CACHE" in error.value.fix
    assert names_below(tmp_path) == []


def test_what_takes_long_says_how_long(
    corpus: Hums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_NOTES", -1.0)
    with caplog.at_level(logging.INFO, "omnictl"):
        open_features(corpus, "val", MEL, tmp_path)
    assert len(caplog.messages) == 7
    assert caplog.messages[-1] == "features of the val split: 7 of 7 utterances, 0 s left"
