"""The neural vocoder: what it sees, what its last layer makes, that streaming is the same."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from omnictl.generate.griffin_lim import Neural, synthesise
from omnictl.models.vocoder import NeuralVocoder, Spectrum, VocoderConfig
from omnictl.nn.audio.mel import RANGE, MelConfig

CONFIG = VocoderConfig(mel=MelConfig(bins=8), width=12, hidden=16, layers=2, kernel=3, lookahead=2)


@pytest.fixture
def vocoder(randomise: Callable[[nn.Module], None]) -> NeuralVocoder:
    made = NeuralVocoder(CONFIG)
    randomise(made)
    return made.eval()


def mels(frames: int) -> torch.Tensor:
    return -RANGE * torch.rand(1, frames, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_recording_comes_back_from_its_spectrum(vocoder: NeuralVocoder) -> None:
    """The last step is the inverse of a short-time transform."""
    hop, fft = CONFIG.mel.hop, CONFIG.mel.fft
    audio = torch.randn(1, 40 * hop, generator=torch.Generator().manual_seed(0))
    found = torch.stft(audio, fft, hop, window=torch.hann_window(fft), pad_mode="constant", return_complex=True).mT[:, :40]
    back = vocoder.samples(Spectrum(found.abs(), found.angle()))
    assert back.shape == audio.shape
    torch.testing.assert_close(back[:, : -fft // 2], audio[:, : -fft // 2], atol=1e-4, rtol=0)


@torch.no_grad()
def test_samples_depend_on_so_many_frames_ahead_and_behind(vocoder: NeuralVocoder) -> None:
    plain = vocoder(mels(40))
    for frame in (10, 25):
        mel = mels(40)
        mel[:, frame] += 1.0
        changed = (vocoder(mel) != plain)[0].nonzero()[:, 0]
        reach = CONFIG.mel.fft // 2 / CONFIG.mel.hop
        assert frame - CONFIG.lookahead - reach <= changed.min() / CONFIG.mel.hop < frame - CONFIG.lookahead
        behind = (CONFIG.layers + 1) * (CONFIG.kernel - 1)
        assert changed.max() / CONFIG.mel.hop <= frame - CONFIG.lookahead + behind + reach


@pytest.mark.parametrize("sizes", [[1], [5, 0, 17], [100]])
def test_it_makes_no_difference_how_frames_come(vocoder: NeuralVocoder, sizes: list[int]) -> None:
    mel = mels(61)[0]
    stream = Neural(vocoder).stream()
    parts, start = [], 0
    while start < len(mel):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.push(mel[start : start + size]))
        start += size
    audio = np.concatenate([*parts, stream.finish()])
    assert len(audio) == 61 * CONFIG.mel.hop
    assert np.array_equal(audio, synthesise(Neural(vocoder), mel))


@torch.no_grad()
def test_streaming_is_the_whole_at_once(vocoder: NeuralVocoder) -> None:
    whole = vocoder(mels(61))[0].clamp(-1, 1)
    streamed = torch.from_numpy(synthesise(Neural(vocoder), mels(61)[0]))
    inside = slice(CONFIG.mel.fft, -CONFIG.mel.fft)  # at its begin the stream has frames of no audio, at its end silence follows
    torch.testing.assert_close(streamed[inside], whole[inside], atol=1e-4, rtol=0)


def test_nothing_is_nothing(vocoder: NeuralVocoder) -> None:
    assert len(synthesise(Neural(vocoder), torch.zeros(0, 8))) == 0


def test_every_parameter_learns(vocoder: NeuralVocoder) -> None:
    vocoder(mels(20)).square().sum().backward()
    for name, parameter in vocoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
