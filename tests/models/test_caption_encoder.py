import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from omnictl.models.caption_encoder import MOST_SCALE, START_SCALE, CaptionEncoder, CaptionEncoderConfig
from omnictl.models.vision_encoder import VisionOutput
from omnictl.nn.transformer import RMSNorm
from omnictl.trainer.optim.optimizers import hidden_matrices

Randomise = Callable[["nn.Module"], None]


def plain_norm(x: Tensor, norm: RMSNorm) -> Tensor:
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + norm.eps) * norm.weight


CAPTIONS = CaptionEncoderConfig(layers=2, width=12, heads=2, hidden=20, joint_width=6)

TOKENS = [[3, 1, 4, 1, 5], [9], [2, 6, 5], [3, 5, 8, 9, 7, 9, 3], [3, 1, 4, 1, 5, 5]]

LENGTHS = torch.tensor([len(tokens) for tokens in TOKENS])


def caption_encoder(randomise: Randomise) -> CaptionEncoder:
    model = CaptionEncoder(CAPTIONS, 10, 12).double().eval()
    randomise(model)
    return model


def padded(garbage: int, length: int = 7) -> Tensor:
    """`(B, T)` with that token where padded."""
    return torch.tensor([tokens + [garbage] * (length - len(tokens)) for tokens in TOKENS])


@pytest.mark.parametrize("garbage", [0, 9])
@pytest.mark.parametrize("length", [7, 12])
@torch.no_grad()
def test_padding_of_captions_changes_nothing(garbage: int, length: int, randomise: Randomise) -> None:
    model = caption_encoder(randomise)
    together = model(padded(garbage, length), LENGTHS)
    for row, tokens in enumerate(TOKENS):
        alone = model(torch.tensor([tokens]), LENGTHS[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-10)


@torch.no_grad()
def test_captions_are_vectors_of_unit_length_in_their_order(randomise: Randomise) -> None:
    model = caption_encoder(randomise)
    found = model(padded(0), LENGTHS)
    assert found.shape == (5, 6)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(5, dtype=torch.float64))
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(model(padded(0)[order], LENGTHS[order]), found[order], rtol=0, atol=1e-10)


@torch.no_grad()
def test_the_order_of_words_and_every_word_count(randomise: Randomise) -> None:
    model = caption_encoder(randomise)
    sentence = torch.tensor([[3, 1, 4, 2, 5]])
    length = torch.tensor([5])
    found = model(sentence, length)
    assert (model(sentence.flip(1), length) - found).abs().max() > 1e-4
    for place in range(5):
        other = sentence.clone()
        other[0, place] = 8
        assert (model(other, length) - found).abs().max() > 1e-4


@torch.no_grad()
def test_captions_against_plain_loops(randomise: Randomise) -> None:
    """Without positions to rotate: of captions of one word there is nothing to attend to but itself."""
    model = caption_encoder(randomise)
    x = model.embedding.weight[9]
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp  # type: ignore[union-attr]
        x = x + attention.o_proj.weight @ (attention.v_proj.weight @ plain_norm(x, block.attention_norm))  # type: ignore[union-attr, arg-type, operator]
        normed = plain_norm(x, block.mlp_norm)  # type: ignore[union-attr, arg-type]
        x = x + mlp.down_proj.weight @ (F.silu(mlp.gate_proj.weight @ normed) * (mlp.up_proj.weight @ normed))  # type: ignore[union-attr, operator]
    expected = model.head["caption"].weight @ plain_norm(x, model.norm)
    found = model(torch.tensor([[9]]), torch.tensor([1]))[0]
    torch.testing.assert_close(found, expected / expected.norm(), rtol=0, atol=1e-10)


@torch.no_grad()
def test_images_are_placed_by_what_was_pooled(randomise: Randomise) -> None:
    model = caption_encoder(randomise)
    pooled = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = model.place(VisionOutput(torch.full((4, 16, 12), float("nan"), dtype=torch.float64), (4, 4), pooled))
    expected = pooled @ model.head["picture"].weight.T
    torch.testing.assert_close(found, expected / expected.norm(dim=-1, keepdim=True))


def test_the_scale_is_learned_up_to_a_limit() -> None:
    model = CaptionEncoder(CAPTIONS, 10, 12)
    assert float(model.clamped_log_scale().detach().exp()) == pytest.approx(START_SCALE)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert float(model.clamped_log_scale().detach().exp()) == pytest.approx(MOST_SCALE)
    with torch.no_grad():
        model.log_scale.fill_(-1.0)
    assert float(model.clamped_log_scale().detach()) == -1


@pytest.mark.parametrize("scale", [-1.0, math.log(MOST_SCALE), 4.7, 9.0])
def test_the_scale_can_come_down_again_from_above_its_limit(scale: float) -> None:
    model = CaptionEncoder(CAPTIONS, 10, 12)
    with torch.no_grad():
        model.log_scale.fill_(scale)
    found = model.clamped_log_scale()
    assert float(found.detach()) == pytest.approx(min(scale, math.log(MOST_SCALE)))
    (gradient,) = torch.autograd.grad(3 * found, model.log_scale)
    assert float(gradient) == 3


def test_the_ways_into_the_common_space_are_heads() -> None:
    """Muon takes none of them."""
    model = CaptionEncoder(CAPTIONS, 10, 12)
    hidden = hidden_matrices(model)
    assert {name for name, _ in model.named_parameters() if name.startswith("head.")} == {
        "head.caption.weight",
        "head.picture.weight",
    }
    assert all(name.startswith("blocks.") for name in hidden)
    assert hidden


@pytest.mark.parametrize("width", [13, 14])  # rotation needs an even head
def test_a_caption_encoder_of_odd_heads_is_refused(width: int) -> None:
    with pytest.raises(ValidationError, match=rf"width {width} must be a multiple of twice the heads \(2\)"):
        CaptionEncoderConfig(**{**CAPTIONS.model_dump(), "width": width})
