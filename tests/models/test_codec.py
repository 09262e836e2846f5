"""The codec: what its parts see, that it learns through the codes, that streaming is the same."""

import pytest
import torch
from torch import Tensor

from omnictl.models.codec import Codec, CodecConfig
from omnictl.nn.audio.mel import RANGE, MelConfig
from omnictl.nn.rvq import QuantiserConfig

SMALL = CodecConfig(mel=MelConfig(bins=8), width=12, layers=2, fine_layers=2, quantiser=QuantiserConfig(books=3, codes=8, width=6))


def lively_codec(config: CodecConfig = SMALL) -> Codec:
    """A codec in which everything counts: some weights start at zero."""
    torch.manual_seed(1)
    codec = Codec(config)
    for name, parameter in codec.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return codec


def random_codes(frames: int) -> Tensor:
    return torch.randint(8, (1, 3, frames), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("books", "codes", "stride", "expected"), [(4, 256, 4, 800.0), (2, 128, 8, 175.0), (4, 128, 4, 700.0), (12, 128, 4, 2100.0)]
)
def test_bits_per_second(books: int, codes: int, stride: int, expected: float) -> None:
    assert CodecConfig(stride=stride, quantiser=QuantiserConfig(books=books, codes=codes)).bits_per_second == expected


@pytest.mark.parametrize("stride", [1, 4, 8])
@torch.no_grad()
def test_a_mel_frame_depends_on_its_code_and_the_past_alone(stride: int) -> None:
    codec = lively_codec(SMALL.model_copy(update={"stride": stride})).double().eval()
    codes = random_codes(16)
    plain = codec.decoder(codec.quantiser.decode(codes))
    for s in (0, 5, 15):
        changed = codes.clone()
        changed[..., s:] = (changed[..., s:] + 1) % 8
        other = codec.decoder(codec.quantiser.decode(changed))
        assert torch.equal(other[:, : s * stride], plain[:, : s * stride])
        assert (other[:, s * stride :] != plain[:, s * stride :]).any(-1).all()


@torch.no_grad()
def test_memory_is_as_far_back_as_a_frame_looks() -> None:
    codec = lively_codec().double().eval()
    codes = random_codes(codec.memory + 4)
    last = slice(-SMALL.stride, None)
    plain = codec.decoder(codec.quantiser.decode(codes))[:, last]
    for back, differs in ((codec.memory, True), (codec.memory + 1, False)):
        changed = codes.clone()
        changed[..., -1 - back] = (changed[..., -1 - back] + 1) % 8
        assert bool((codec.decoder(codec.quantiser.decode(changed))[:, last] != plain).any()) == differs


@torch.no_grad()
def test_streaming_is_decoding() -> None:
    codec = lively_codec().eval()
    codes = random_codes(40)
    streamed = torch.cat(list(codec.stream(iter(codes[0].T))))
    torch.testing.assert_close(streamed, codec.decode(codes)[0], atol=1e-4, rtol=1e-5)
    assert streamed.shape == (160, 8)


def test_every_parameter_learns_through_the_codes() -> None:
    codec = lively_codec()
    mel = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    coded = codec(mel)
    (coded.mel - mel).square().sum().backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any(), name


def test_commitment_moves_the_encoder_alone() -> None:
    codec = lively_codec()
    codec(torch.randn(2, 16, 8)).commitment.sum().backward()
    assert all(parameter.grad.any() for parameter in codec.encoder.parameters() if parameter.grad is not None)
    assert all(parameter.grad is None for parameter in codec.decoder.parameters())


@torch.no_grad()
def test_fewer_books_are_the_first_ones() -> None:
    codec = lively_codec().eval()
    mel = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    codes = codec.encode(mel)
    for books in (1, 2, 3):
        coded = codec(mel, torch.tensor([books]))
        torch.testing.assert_close(coded.mel, codec.decoder(codec.quantiser.decode(codes[:, :books])))
    assert not torch.allclose(codec(mel, torch.tensor([1])).mel, codec(mel, torch.tensor([3])).mel)


@torch.no_grad()
def test_silence_fills_up_the_last_frame() -> None:
    codec = lively_codec().eval()
    mel = -RANGE * torch.rand(1, 13, 8, generator=torch.Generator().manual_seed(0))
    filled = torch.cat([mel, torch.full((1, 3, 8), -RANGE)], 1)
    assert torch.equal(codec.encode(mel), codec.encode(filled))
    assert codec.encode(mel).shape == (1, 3, 4)


@torch.no_grad()
def test_decoded_frames_are_log_mels() -> None:
    codec = lively_codec().eval()
    codec.std.fill_(50.0)
    mel = codec.decode(random_codes(30))
    assert mel.min() == -RANGE
    assert mel.max() == 0.0
