"""Hearing in chunks: what a frame sees, and that a stream with caches is the whole utterance under the same mask."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from omnictl.models.audio_encoder import AudioEncoder, AudioEncoderConfig, StreamingConfig
from omnictl.models.audio_stream import AudioEncoderStream
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.conv import SUBSAMPLING

BINS = 12
SMALL = AudioEncoderConfig(mel=MelConfig(bins=BINS), layers=2, width=24, heads=2, hidden=40, kernel=5, dropout=0.0, emissions=1)
Randomise = Callable[[nn.Module], None]

VARIANTS: dict[str, tuple[dict[str, object], StreamingConfig]] = {
    "plain": ({}, StreamingConfig(chunk=4, left=2)),
    "nothing before": ({}, StreamingConfig(chunk=4, left=0)),
    "wide kernel": ({"kernel": 15}, StreamingConfig(chunk=3, left=1)),
    "no convolution module": ({"kernel": 0}, StreamingConfig(chunk=5, left=1)),
    "one frame": ({"layers": 3}, StreamingConfig(chunk=1, left=3)),
}


def encoder(variant: str, randomise: Randomise, dtype: torch.dtype) -> AudioEncoder:
    changes, streaming = VARIANTS[variant]
    model = AudioEncoder(SMALL.model_copy(update={**changes, "streaming": streaming}), 11).to(dtype).eval()
    randomise(model)
    model.mean.copy_(torch.linspace(-6, -3, BINS))
    model.std.copy_(torch.linspace(1, 3, BINS))
    return model


def features(length: int, dtype: torch.dtype) -> Tensor:
    return -4 + 2 * torch.randn(1, length, BINS, generator=torch.Generator().manual_seed(length), dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stream_is_the_whole_utterance_under_the_same_mask(
    variant: str, dtype: torch.dtype, tolerance: float, randomise: Randomise
) -> None:
    model = encoder(variant, randomise, dtype)
    size = SUBSAMPLING * model.config.streaming.chunk
    for length in (1, 2, 7, size - 1, size, size + 1, 3 * size, 5 * size + 6, 97):
        given = features(length, dtype)
        whole = model(given, torch.tensor([length]), in_chunks=True).frames[0]
        stream = AudioEncoderStream(model)
        frames = torch.cat([stream.push(chunk) for chunk in given[0].split(size)])
        assert frames.shape == whole.shape
        torch.testing.assert_close(frames, whole, atol=tolerance, rtol=0)
    assert (whole - model(given, torch.tensor([length])).frames[0]).abs().max() > 0.01  # the mask does something


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_frame_sees_its_chunk_and_what_came_before_it(variant: str, randomise: Randomise) -> None:
    model = encoder(variant, randomise, torch.float64)
    chunk, left = model.config.streaming.chunk, model.config.streaming.left
    given = features(80, torch.float64)
    plain = model(given, torch.tensor([80]), in_chunks=True).frames[0]
    for place in (0, 41, 79):
        moved = given.clone()
        moved[0, place] += 1
        changed = (model(moved, torch.tensor([80]), in_chunks=True).frames[0] - plain).abs().amax(-1) > 1e-9
        first, last = (int(changed.nonzero()[at]) for at in (0, -1))
        assert (
            first == place // SUBSAMPLING // chunk * chunk or first == (place + 3) // SUBSAMPLING
        )  # heard at once by all of its chunk
        reach = model.config.layers * (left * chunk + model.config.kernel // 2 + chunk)
        assert last <= place // SUBSAMPLING + 1 + reach


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("garbage", [0.0, float("nan")])
@torch.no_grad()
def test_padding_changes_nothing_in_chunks_either(variant: str, garbage: float, randomise: Randomise) -> None:
    model = encoder(variant, randomise, torch.float32)
    lengths = [61, 1, 26, 7]
    together = torch.full((len(lengths), max(lengths), BINS), garbage)
    for row, length in enumerate(lengths):
        together[row, :length] = features(length, torch.float32)[0]
    frames, counts = model(together, torch.tensor(lengths), in_chunks=True)
    for row, length in enumerate(lengths):
        alone = model(features(length, torch.float32), torch.tensor([length]), in_chunks=True).frames[0]
        torch.testing.assert_close(frames[row, : counts[row]], alone, atol=1e-4, rtol=0)
        assert not frames[row, counts[row] :].any()
