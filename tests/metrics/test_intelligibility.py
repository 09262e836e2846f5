"""Measures of others, and what they cannot judge."""

import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.metrics import intelligibility
from omnictl.metrics.intelligibility import RATE, quality, quality_estimates

both = pytest.mark.skipif(intelligibility.installed_measures() != ("stoi", "pesq"), reason="STOI and PESQ are not installed")


def noise(samples: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


@both
def test_a_recording_is_like_itself_and_more_noise_is_worse() -> None:
    audio, other = noise(2 * RATE), np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
    assert quality(audio, audio) == pytest.approx({"stoi": 1.0, "pesq": 4.64}, abs=0.01)
    little, much = (quality(audio, audio + share * other) for share in (0.1, 2.0))
    assert 1 > little["stoi"] > much["stoi"]
    assert 4.64 > little["pesq"] > much["pesq"] >= 1


@both
def test_what_is_longer_is_cut() -> None:
    audio = noise(2 * RATE)
    assert quality(audio, np.concatenate([audio, noise(RATE)])) == quality(audio, audio)


@both
@pytest.mark.parametrize(
    ("samples", "judged"), [(1, set()), (100, set()), (3_000, set()), (5_000, {"pesq"}), (RATE, {"stoi", "pesq"})]
)
def test_what_is_too_short_is_not_judged(samples: int, judged: set[str]) -> None:
    assert set(quality(noise(samples), noise(samples))) == judged


@both
def test_silence_is_not_judged_but_what_became_silent_is() -> None:
    silence = np.zeros(RATE, np.float32)
    assert quality(silence, noise(RATE)) == {}
    assert quality(noise(RATE), silence) == pytest.approx({"stoi": 0.0, "pesq": 1.0}, abs=1e-6)


def test_means_are_of_what_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intelligibility, "installed_measures", lambda: ("stoi", "pesq"))
    found = quality_estimates([{"stoi": 0.5}, {}, {"stoi": 0.7}])
    assert {name: (one.value, one.count) for name, one in found.items()} == {"stoi": (pytest.approx(0.6), 2)}
    assert quality_estimates([]) == {}
