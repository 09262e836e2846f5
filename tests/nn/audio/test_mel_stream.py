"""Log-mels of audio that comes in pieces."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omnictl.nn.audio.mel import QUIETEST_LOUDEST, RANGE, MelConfig, MelStream, level_by_chunks, log_mel

SIZE = 16
CONFIGS = {
    "default": MelConfig(),
    "odd": MelConfig(sample_rate=22_050, window=551, hop=221, fft=1024, bins=40, low_hz=0.0, high_hz=11_025.0),
}


def swelling(seconds: float, rate: int) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    return ((0.5 + time**2) * (noise + np.sin(2_000 * time))).astype(np.float32)


def streamed(samples: NDArray[np.float32], config: MelConfig, cuts: list[int]) -> torch.Tensor:
    stream = MelStream(config, SIZE)
    chunks = [chunk for piece in np.split(samples, cuts) for chunk in stream.push(piece)]
    rest = stream.finish()
    assert all(len(chunk) == SIZE for chunk in (*chunks, *rest[:-1]))
    return torch.cat([*chunks, *rest])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seconds", [0.005, 0.1, 0.3333, 1.0])
def test_a_stream_gives_the_features_of_the_whole_levelled_by_chunks(name: str, seconds: float) -> None:
    config = CONFIGS[name]
    samples = swelling(seconds, config.sample_rate)
    whole = log_mel(samples, config)
    expected = level_by_chunks(whole[None], torch.tensor([len(whole)]), SIZE)[0]
    found = streamed(samples, config, [])
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_however_it_is_cut() -> None:
    config, samples = CONFIGS["default"], swelling(0.7, 16_000)
    whole = streamed(samples, config, [])
    for cuts in ([1], [160, 161, 4_000], list(range(0, len(samples), 37))):
        torch.testing.assert_close(streamed(samples, config, cuts), whole, atol=1e-4, rtol=0)


def test_silence_and_whispers_stay_quiet() -> None:
    config = CONFIGS["default"]
    assert (streamed(np.zeros(4_000, np.float32), config, []) == -RANGE).all()
    whisper = 1e-5 * swelling(0.5, 16_000)
    assert streamed(whisper, config, []).max() < -1
    assert QUIETEST_LOUDEST < 0


def test_levels_rise_with_the_loudest_so_far_and_padding_does_not_count() -> None:
    features = torch.full((2, 7, 3), -9.0)
    features[0, 4, 1] = 0.0
    features[1, 2:] = 50.0  # beyond its end
    levelled = level_by_chunks(features, torch.tensor([7, 2]), 2, least=-20.0)
    assert levelled[0, :4].eq(0).all()
    assert levelled[0, 4:, 0].eq(-9).all()
    assert levelled[0, 4, 1] == 0
    assert levelled[1, :2].eq(0).all()
