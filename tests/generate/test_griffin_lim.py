"""Audio of log-mel frames: the same however the frames come, and with the mels that were asked for."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.generate.griffin_lim import GriffinLim, magnitudes, synthesise
from omnictl.nn.audio.mel import RANGE, MelConfig, filterbank, log_mel
from omnictl.tinyworld.speech.espeak import Request, speak

MEL = MelConfig(sample_rate=22_050, window=552, hop=220, fft=1024, high_hz=8_000)
VOCODER = GriffinLim(MEL)


@pytest.fixture(scope="module")
def wanted() -> Tensor:
    """Log-mels of a spoken sentence."""
    spoken = speak([Request("The red circle is left of two small stars.", "en-us", 140, 50)])
    assert spoken.rate == MEL.sample_rate
    return log_mel(spoken.samples[0].astype(np.float32) / np.float32(2**15), MEL)


def in_pieces(mel: Tensor, sizes: Sequence[int]) -> NDArray[np.float32]:
    stream = VOCODER.stream()
    parts: list[NDArray[np.float32]] = []
    start = 0
    while start < len(mel):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.push(mel[start : start + size]))
        start += size
    return np.concatenate([*parts, stream.finish()])


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[1], [4], [7, 0, 30], [100]])
def test_it_makes_no_difference_how_frames_come(wanted: Tensor, sizes: Sequence[int]) -> None:
    assert np.array_equal(in_pieces(wanted, sizes), synthesise(VOCODER, wanted))


def test_the_audio_has_the_mels_that_were_asked_for(wanted: Tensor) -> None:
    audio = synthesise(VOCODER, wanted)
    assert len(audio) == len(wanted) * MEL.hop
    assert audio.dtype == np.float32
    found = log_mel(audio, MEL)[: len(wanted)]
    error = (found - wanted).abs().mean()
    assert error < 0.25
    assert (found.flip(0) - wanted).abs().mean() > 8 * error  # as any other speech would be


def test_without_rounds_it_is_worse(wanted: Tensor) -> None:
    rough = log_mel(synthesise(GriffinLim(MEL, rounds=1), wanted), MEL)[: len(wanted)]
    fine = log_mel(synthesise(VOCODER, wanted), MEL)[: len(wanted)]
    assert (rough - wanted).abs().mean() > 1.5 * (fine - wanted).abs().mean()


def test_samples_come_as_early_as_promised(wanted: Tensor) -> None:
    stream = VOCODER.stream()
    need = VOCODER.chunk + VOCODER.lookahead
    assert len(stream.push(wanted[: need - 1])) == 0
    assert len(stream.push(wanted[need - 1 : need])) == VOCODER.chunk * MEL.hop


def test_what_is_held_does_not_grow(wanted: Tensor) -> None:
    stream = VOCODER.stream()
    held = set()
    for _ in range(4):
        for frame in wanted[:40]:
            stream.push(frame[None])
        held.add(sum(value.numel() for value in vars(stream).values() if isinstance(value, Tensor)))
    assert len(held) == 1


@pytest.mark.slow
def test_what_is_held_does_not_depend_on_the_size_of_a_push(wanted: Tensor) -> None:
    held = set()
    for times in (1, 50):
        stream = VOCODER.stream()
        stream.push(wanted[: VOCODER.chunk * 5].repeat(times, 1))
        held.add(sum(value.untyped_storage().nbytes() for value in vars(stream).values() if isinstance(value, Tensor)))
    assert max(held) < 1.2 * min(held)


@pytest.mark.slow
def test_what_comes_later_does_not_change_what_was_said(wanted: Tensor) -> None:
    quiet = wanted - 4
    said = VOCODER.stream().push(quiet)
    assert len(said) > 0
    later = synthesise(VOCODER, torch.cat([quiet, torch.zeros(50, MEL.bins)]))
    assert np.array_equal(later[: len(said)], said)


def test_silence_is_silent_and_nothing_is_nothing() -> None:
    assert np.abs(synthesise(VOCODER, torch.full((50, MEL.bins), -RANGE))).max() < 1e-4
    assert len(synthesise(VOCODER, torch.zeros(0, MEL.bins))) == 0


def test_one_frame_is_audio() -> None:
    assert len(synthesise(VOCODER, torch.full((1, MEL.bins), -5.0))) == MEL.hop


def test_the_loudest_is_within_bounds() -> None:
    audio = synthesise(VOCODER, torch.zeros(60, MEL.bins))  # every band as loud as any can be
    assert np.abs(audio).max() <= 1.0


def test_magnitudes_have_the_mels(wanted: Tensor) -> None:
    power = magnitudes(wanted, MEL).square() @ filterbank(MEL)
    loud = wanted > -10
    assert (power.log() - wanted)[loud].abs().mean() < 0.1
    assert (magnitudes(wanted, MEL) >= 0).all()
