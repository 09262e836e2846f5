import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnictl.nn.losses.contrastive import contrastive_sum

PAIRS, WIDTH = 5, 4


def problem(pairs: int = PAIRS) -> tuple[Tensor, Tensor, Tensor]:
    """Images, captions and a scale, in double precision."""
    generator = torch.Generator().manual_seed(0)
    images, captions = (F.normalize(torch.randn(pairs, WIDTH, dtype=torch.float64, generator=generator), dim=-1) for _ in range(2))
    return images, captions, torch.tensor(math.log(5.0), dtype=torch.float64)


def double_loop(images: Tensor, captions: Tensor, log_scale: Tensor) -> Tensor:
    """The formula, pair by pair."""
    scale, total = log_scale.exp(), torch.zeros((), dtype=torch.float64)
    for i in range(len(images)):
        own = scale * (images[i] @ captions[i])
        by_image = sum((scale * (images[i] @ captions[j])).exp() for j in range(len(captions)))
        by_caption = sum((scale * (images[j] @ captions[i])).exp() for j in range(len(images)))
        total = total - (own - torch.log(torch.as_tensor(by_image)) + own - torch.log(torch.as_tensor(by_caption))) / 2
    return total


def test_is_the_formula() -> None:
    assert float(contrastive_sum(*problem())) == pytest.approx(float(double_loop(*problem())), rel=1e-12)


def test_gradients_are_those_of_the_formula() -> None:
    found, expected = ([tensor.requires_grad_() for tensor in problem()] for _ in range(2))
    gradients = torch.autograd.grad(contrastive_sum(*found), found)
    for one, two in zip(gradients, torch.autograd.grad(double_loop(*expected), expected), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(contrastive_sum, found)


def test_images_and_captions_may_change_places() -> None:
    images, captions, scale = problem()
    assert float(contrastive_sum(images, captions, scale)) == pytest.approx(
        float(contrastive_sum(captions, images, scale)), rel=1e-6
    )


def test_the_order_of_pairs_does_not_matter_but_who_belongs_to_whom_does() -> None:
    images, captions, scale = problem()
    order = torch.tensor([3, 1, 4, 0, 2])
    value = float(contrastive_sum(images, captions, scale))
    assert float(contrastive_sum(images[order], captions[order], scale)) == pytest.approx(value, rel=1e-6)
    assert float(contrastive_sum(images, captions[order], scale)) != pytest.approx(value, rel=1e-2)


def test_a_perfect_match_at_a_high_scale_costs_nothing() -> None:
    same = torch.eye(6)
    assert float(contrastive_sum(same, same, torch.tensor(math.log(100.0)))) < 1e-6
    turned = same.roll(1, 0)
    assert float(contrastive_sum(same, turned, torch.tensor(math.log(100.0)))) == pytest.approx(600, rel=1e-4)


@pytest.mark.parametrize("pairs", [1, 2, 7])
def test_without_a_scale_it_is_chance(pairs: int) -> None:
    images, captions, _ = problem(pairs)
    loss = contrastive_sum(images, captions, torch.tensor(-math.inf))
    assert float(loss) == pytest.approx(pairs * math.log(pairs), rel=1e-6)


def test_the_scale_grows_while_all_pairs_are_right() -> None:
    scale = torch.tensor(0.0, requires_grad=True)
    (right,) = torch.autograd.grad(contrastive_sum(torch.eye(4), torch.eye(4), scale), scale)
    (wrong,) = torch.autograd.grad(contrastive_sum(torch.eye(4), torch.eye(4).roll(1, 0), scale), scale)
    assert float(right) < 0 < float(wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_vectors_are_compared_in_fp32_under_autocast_too(dtype: torch.dtype) -> None:
    images, captions, _ = problem()
    given = (images.to(dtype), captions.to(dtype), torch.tensor(math.log(100.0)))
    expected = contrastive_sum(*(tensor.double() for tensor in given))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_sum(*given)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
