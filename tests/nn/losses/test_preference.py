"""Against the formula of the paper, written out in numpy's float64."""

import numpy as np
import pytest
import torch

from omnictl.nn.losses.preference import dpo_loss


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_loss_and_gradient_are_those_of_the_paper(beta: float) -> None:
    rng = np.random.default_rng(0)
    log_probs, reference = -rng.uniform(1, 30, (5, 2)), -rng.uniform(1, 30, (5, 2))
    ratios = np.log(np.exp(log_probs) / np.exp(reference))
    rewards = beta * ratios
    rejected = 1 / (1 + np.exp(rewards[:, 0] - rewards[:, 1]))
    nats = torch.tensor(-log_probs, requires_grad=True)
    loss = dpo_loss(nats, torch.tensor(-reference), beta)
    assert float(loss.sum.detach()) == pytest.approx(-np.log1p(-rejected).sum(), rel=1e-9)
    np.testing.assert_allclose(loss.margins, rewards[:, 0] - rewards[:, 1], rtol=1e-9)
    loss.sum.backward()
    expected = beta * rejected[:, None] * np.array([1.0, -1.0])  # of −ln p
    np.testing.assert_allclose(nats.grad, expected, rtol=1e-9)


def test_far_apart_replies_overflow_nothing() -> None:
    nats = torch.tensor([[0.0, 4000.0], [4000.0, 0.0]], requires_grad=True)
    loss = dpo_loss(nats, torch.zeros(2, 2), 1.0)
    assert float(loss.sum.detach()) == 4000.0
    loss.sum.backward()
    assert torch.equal(nats.grad, torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
