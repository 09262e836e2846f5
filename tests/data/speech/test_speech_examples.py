"""What CTC can train on, and what is set aside with a reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech import examples as speech_set
from omnictl.data.speech.corpus import Recording, Samples
from omnictl.data.speech.examples import SpeechSet, drop_infeasible, find_infeasible, open_set
from omnictl.data.speech.transcripts.targets import BpeTargets, CharacterTargets
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig

MEL = MelConfig(bins=20)


def noise(num_frames: int, seed: int = 0) -> Samples:
    """So many mel frames of noise, falling in loudness."""
    num_samples = (num_frames - 1) * MEL.hop + 1
    loudness = np.geomspace(1, 0.1, num_samples, dtype=np.float32)
    return np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32) * loudness


@dataclass
class Said:
    """A corpus of texts and recordings."""

    texts: Sequence[str]
    heard: Sequence[Samples | DataError]
    fingerprint: str = "f" * 64
    name: str = "here"
    broken: Sequence[BrokenRow] = ()

    def recordings(self, split: Split) -> Sequence[Recording]:
        return [Recording(f"id{n}", text, "ann", f"here:{n}", None) for n, text in enumerate(self.texts)]

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        return iter(self.heard)


def opened(corpus: Said, cache: Path, speeds: Sequence[float] = (1.0,)) -> SpeechSet:
    return open_set(corpus, "train", MEL, CharacterTargets(), cache, speeds=speeds)


@pytest.fixture
def mixed(tmp_path: Path) -> SpeechSet:
    """Two rows to use and one of every flaw."""
    texts = ["Number 7, please.", "unreadable", "наш кот", "?!", "the cat", ""]
    heard: list[Samples | DataError] = [noise(20 + 4 * n, n) for n in range(6)]
    heard[1] = DataError("1.wav is cut off", fix="copy it anew")
    return opened(Said(texts, heard), tmp_path, (1.0, 0.5))


def test_what_cannot_be_heard_or_spelled_is_set_aside_with_the_reason(mixed: SpeechSet) -> None:
    assert mixed.set_aside == (
        ("id1", "here:1", "1.wav is cut off"),
        ("id2", "here:2", "the transcript has characters outside the alphabet: акнотш (targets.kind=chars spells any)"),
        ("id3", "here:3", "the transcript '?!' has no words"),
        ("id5", "here:5", "the transcript '' has no words"),
    )


def test_the_others_keep_their_order_and_their_recordings(mixed: SpeechSet) -> None:
    assert len(mixed) == 2
    assert [row.id for row in mixed.recordings] == ["id0", "id4"]
    assert mixed.recordings[0].text == "Number 7, please."
    assert mixed.texts == ("number seven please", "the cat")
    assert mixed.targets == tuple(CharacterTargets().encode(text) for text in mixed.texts)
    assert mixed.numbers.tolist() == [0, 4]
    assert mixed.lengths().tolist() == [20, 36]
    assert mixed.lengths(1).tolist() == pytest.approx([40, 72], abs=1)
    for index, number in enumerate((0, 4)):
        for speed in (0, 1):
            found = mixed.features(index, speed)
            assert found.shape == (mixed.lengths(speed)[index], 20)
            assert np.array_equal(found, mixed.stores[speed].features(number))


def test_a_part_keeps_what_was_set_aside_and_adds_to_it(mixed: SpeechSet) -> None:
    reason = BrokenRow("id0", "here:0", "too short")
    part = mixed.select([1], [reason])
    assert [row.id for row in part.recordings] == ["id4"]
    assert (part.texts, part.targets) == (mixed.texts[1:], mixed.targets[1:])
    assert np.array_equal(part.features(0), mixed.features(1))
    assert part.set_aside == (*mixed.set_aside, reason)
    assert len(mixed.select([], [])) == 0
    assert len(mixed) == 2


def test_pieces_are_spelled_too(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat", "the hat of the cat"]
    targets = BpeTargets.train(texts, 266)
    found = open_set(Said(texts, [noise(90), noise(90)]), "train", MEL, targets, tmp_path)
    assert found.targets == tuple(map(targets.encode, texts))


# "hello" needs five steps and a blank between the two l. At 25 Hz steps are four frames each, the last perhaps fewer.
@pytest.mark.parametrize(
    ("num_frames", "emissions", "steps"),
    [(21, 1, None), (24, 1, None), (20, 1, 5), (17, 1, 5), (13, 2, None), (12, 2, None), (9, 2, None), (8, 2, 4), (1, 1, 1)],
)
def test_what_is_too_short_is_told_apart_to_the_frame(num_frames: int, emissions: int, steps: int | None, tmp_path: Path) -> None:
    found = opened(Said(["hello"], [noise(num_frames)]), tmp_path)
    hertz = 25 * emissions
    expected = {} if steps is None else {0: f"too short for its transcript: {steps} steps at {hertz} Hz, CTC needs 6"}
    assert find_infeasible(found, emissions, MEL) == expected


def test_the_fastest_speed_decides(tmp_path: Path) -> None:
    corpus = Said(["hello"] * 3, [noise(num_frames) for num_frames in (21, 23, 30)])
    assert list(find_infeasible(opened(corpus, tmp_path), 1, MEL)) == []
    assert list(find_infeasible(opened(corpus, tmp_path, (1.0, 1.25)), 1, MEL)) == [0, 1]
    assert list(find_infeasible(opened(corpus, tmp_path, (1.0, 0.8)), 1, MEL)) == []


def test_what_is_too_short_is_set_aside(tmp_path: Path) -> None:
    corpus = Said(["hello", "ah", "?", "hello", "hello"], [noise(num_frames) for num_frames in (8, 8, 8, 40, 8)])
    found = opened(corpus, tmp_path)
    assert [row.id for row in found.set_aside] == ["id2"]
    feasible = drop_infeasible(found, 1, MEL)
    assert [row.id for row in feasible.recordings] == ["id1", "id3"]
    assert [row.id for row in feasible.set_aside] == ["id2", "id0", "id4"]
    assert feasible.set_aside[1].where == "here:0"
    assert feasible.set_aside[1].message == "too short for its transcript: 2 steps at 25 Hz, CTC needs 6"
    assert len(drop_infeasible(feasible, 1, MEL)) == 2


def test_nothing_may_be_left(tmp_path: Path) -> None:
    found = drop_infeasible(opened(Said(["hello"], [noise(8)]), tmp_path), 1, MEL)
    assert len(found) == 0
    assert find_infeasible(found, 1, MEL) == {}


def test_statistics_are_those_of_the_utterances_in_the_set(mixed: SpeechSet) -> None:
    mean, std = mixed.statistics
    frames = np.concatenate([mixed.features(0), mixed.features(1)]).astype(np.float64)
    assert mean.dtype == std.dtype == np.float32
    assert mean.shape == std.shape == (20,)
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, frames.std(0) + 1e-3, rtol=1e-5)


def test_statistics_of_a_large_set_are_those_of_some_utterances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 60
    found = opened(Said(["ah"] * count, [noise(40, seed) for seed in range(count)]), tmp_path)
    whole = found.statistics
    monkeypatch.setattr(speech_set, "STATISTICS_FRAMES", 1_000)
    read = []
    really = SpeechSet.features

    def counted(self: SpeechSet, index: int, speed: int = 0) -> speech_set.Float32:
        read.append(index)
        return really(self, index, speed)

    monkeypatch.setattr(SpeechSet, "features", counted)
    some = replace(found).statistics
    assert len(read) == len(set(read)) == 25  # of 40 frames
    np.testing.assert_allclose(some[0], whole[0], atol=0.2)
    again = replace(found).statistics
    assert np.array_equal(some[0], again[0])
    assert np.array_equal(some[1], again[1])


def test_a_bin_that_never_changes_can_be_divided_by(tmp_path: Path) -> None:
    _, std = opened(Said(["ah"], [np.zeros(4_000, np.float32)]), tmp_path).statistics
    assert std == pytest.approx(np.full(20, 1e-3))
