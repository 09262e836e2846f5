import math

import pytest
import torch
from torch import Tensor, nn

from omnictl.trainer.optim.muon import MOMENTUM, POLYNOMIALS, Muon, polar_factor, polar_flops

SHAPES = [(3, 24, 24), (2, 16, 40), (2, 40, 16), (1, 33, 32)]


def exact(matrices: Tensor) -> Tensor:
    """U·Vᵀ by the singular value decomposition in float64."""
    left, _, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    return left @ right


def spread(shape: tuple[int, ...], smallest: float) -> Tensor:
    """Matrices whose singular values fall evenly, in logarithms, from 1 to `smallest`."""
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)).double(), full_matrices=False)
    values = torch.logspace(0, math.log10(smallest), min(shape[-2:]), dtype=torch.float64)
    return (left * values) @ right


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 0.13), (torch.bfloat16, 0.16), (torch.float16, 0.14)])
def test_it_is_nearly_the_polar_factor_in_every_format(shape: tuple[int, ...], dtype: torch.dtype, bound: float) -> None:
    matrices = 1e-3 * spread(shape, 0.02)
    found, truth = polar_factor(matrices.float(), dtype).double(), exact(matrices)
    assert found.shape == truth.shape
    for one, other in zip(found, truth, strict=True):
        assert (one - other).norm() / other.norm() < bound
        values = torch.linalg.svdvals(one)
        assert values.min() > 0.8
        assert values.max() < 1.2


@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_of_iterating_are_the_polynomials_on_singular_values(shape: tuple[int, ...]) -> None:
    matrices = spread(shape, 1e-4)
    values = torch.linalg.svdvals(matrices) / (torch.linalg.matrix_norm(matrices)[:, None] * 1.01) * 1.9917
    for a, b, c in POLYNOMIALS:
        values = a * values + b * values**3 + c * values**5
    found = torch.linalg.svdvals(polar_factor(matrices, torch.float64))
    torch.testing.assert_close(found, values.sort(descending=True).values, rtol=1e-5, atol=1e-6)


def test_matrices_of_one_stack_do_not_touch_each_other() -> None:
    one, other = spread((1, 16, 16), 0.1), 100 * spread((1, 16, 16), 0.3)
    both = polar_factor(torch.cat([one, other]), torch.float64)
    torch.testing.assert_close(both[:1], polar_factor(one, torch.float64))
    torch.testing.assert_close(both[1:], polar_factor(other, torch.float64))


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(polar_factor(torch.zeros(2, 8, 8), torch.float32), torch.zeros(2, 8, 8))


def test_flops_are_those_of_the_products() -> None:
    square, oblong = 4 * (4 * 8**3 + 2 * 8**3), 4 * 8**2 * 16 + 12 * 2 * 8**3
    assert polar_flops(torch.Size([8, 8])) == square
    assert polar_flops(torch.Size([8, 16])) == polar_flops(torch.Size([16, 8])) == oblong
    assert oblong < 4 * (4 * 8**2 * 16 + 2 * 8**3)  # or it would not be worth its own way


@pytest.mark.parametrize("shape", [(12, 12), (24, 8), (8, 24)])
def test_steps_are_those_of_torch_but_for_the_polar_factor(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum, Nesterov, decay and the rate of tall matrices: with the exact factor in both, the weights agree."""
    monkeypatch.setattr("omnictl.trainer.optim.muon.polar_factor", lambda matrices, dtype: exact(matrices).to(dtype))
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", lambda gradient, *_: exact(gradient[None])[0])
    torch.manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64)
    own, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([{"params": [own]}], lr=0.02, weight_decay=0.1, dtype=torch.float64)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=MOMENTUM)
    for _ in range(5):
        own.grad = torch.randn(shape, dtype=torch.float64)
        theirs.grad = own.grad.clone()
        ours.step()
        reference.step()
    torch.testing.assert_close(own.detach(), theirs.detach())
    assert torch.equal(ours.state[own]["momentum_buffer"], reference.state[theirs]["momentum_buffer"])
