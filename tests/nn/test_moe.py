from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from omnictl.nn.batch_statistics import apply_batch_statistics
from omnictl.nn.moe import MixtureOfExperts

EXPERTS, TOP_K, WIDTH = 5, 2, 6


@pytest.fixture
def moe(randomise: Callable[[nn.Module], None]) -> MixtureOfExperts:
    model = MixtureOfExperts(WIDTH, 8, num_experts=EXPERTS, top_k=TOP_K).double()
    randomise(model)
    model.router.weight.data *= 10  # decided, so that the experts' shares differ
    model.load.copy_(torch.tensor([0.1, 0.3, 0.05, 0.35, 0.2]))
    return model


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 7, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_each_position_is_the_weighted_sum_of_its_best_experts(moe: MixtureOfExperts, x: Tensor) -> None:
    routed = moe(x)
    for row in range(x.shape[0]):
        for t in range(x.shape[1]):
            shares = (moe.router.weight.detach() @ x[row, t]).softmax(-1)
            best = sorted(range(EXPERTS), key=lambda e: -float(shares[e]))[:TOP_K]
            total = sum(shares[e] for e in best)
            expected = sum((shares[e] / total * moe.experts[e](x[row, t]) for e in best), torch.zeros(()))
            torch.testing.assert_close(routed.output[row, t], expected, atol=1e-6, rtol=1e-5)


def test_load_counts_the_chosen_experts_of_valid_positions(moe: MixtureOfExperts, x: Tensor) -> None:
    valid = torch.ones(x.shape[:2], dtype=torch.bool)
    valid[0, 3:] = valid[2, :] = False
    shares = (x[valid] @ moe.router.weight.T).softmax(-1)  # (N, E)
    expected = torch.bincount(shares.topk(TOP_K).indices.flatten(), minlength=EXPERTS)
    load = moe(x, valid).load
    assert load.tolist() == expected.tolist()
    assert load.sum() == TOP_K * 10
    assert len(set(load.tolist())) > 1


def test_padded_positions_change_neither_balance_nor_load(moe: MixtureOfExperts, x: Tensor) -> None:
    valid = torch.ones(x.shape[:2], dtype=torch.bool)
    valid[:, 5:] = False
    padded, alone = moe(x, valid), moe(x[:, :5])
    torch.testing.assert_close(padded.balance[:, :5], alone.balance)
    assert not padded.balance[:, 5:].any()
    assert padded.load.tolist() == alone.load.tolist()
    torch.testing.assert_close(padded.output[:, :5], alone.output)


def test_balance_is_the_switch_loss_with_the_last_steps_load(moe: MixtureOfExperts, x: Tensor) -> None:
    weight = moe.router.weight.detach().clone().requires_grad_()
    shares = (x.flatten(0, 1) @ weight.T).softmax(-1)  # (N, E)
    expected = sum(EXPERTS * load * share for load, share in zip(moe.load, shares.sum(0), strict=True))
    assert isinstance(expected, Tensor)
    torch.autograd.backward(expected)
    balance = moe(x).balance.sum()
    torch.autograd.backward(balance)
    torch.testing.assert_close(balance, expected, atol=0, rtol=1e-6, check_dtype=False)
    assert moe.router.weight.grad is not None
    assert weight.grad is not None
    assert weight.grad.norm() > 0.01
    torch.testing.assert_close(moe.router.weight.grad, weight.grad, atol=1e-5, rtol=1e-5)


def test_balance_and_load_of_parts_add_up(moe: MixtureOfExperts, x: Tensor) -> None:
    whole, parts = moe(x), [moe(x[:1]), moe(x[1:])]
    torch.testing.assert_close(whole.balance, torch.cat([part.balance for part in parts]), atol=0, rtol=1e-6)
    assert whole.load.tolist() == (parts[0].load + parts[1].load).tolist()


def test_a_following_gradient_step_on_the_balance_evens_the_load(moe: MixtureOfExperts) -> None:
    x = torch.randn(1, 400, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.5
    spread = []
    for _ in range(60):
        routed = moe(x)
        moe.load.copy_(routed.load / routed.load.sum())
        spread.append(float(moe.load.std()))
        (gradient,) = torch.autograd.grad(moe(x).balance.sum(), moe.router.weight)
        moe.router.weight.data -= 1e-3 * gradient
    assert spread[-1] < 0.5 * spread[0]


def test_loads_are_taken_over_only_when_asked_for(moe: MixtureOfExperts) -> None:
    before = moe.load.clone()
    moe.pending_load += torch.tensor([1.0, 0, 0, 2, 0])
    moe.pending_load += torch.tensor([1.0, 0, 0, 0, 0])
    assert torch.equal(moe.load, before)
    apply_batch_statistics(nn.Sequential(nn.Linear(2, 2), moe))
    assert moe.load.tolist() == [0.5, 0, 0, 0.5, 0]
    assert moe.pending_load.sum() == 0
    apply_batch_statistics(moe)  # nothing gathered: nothing to take over
    assert moe.load.tolist() == [0.5, 0, 0, 0.5, 0]
