"""The forward sum and the likeliest path, against all paths written out."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from omnictl.nn.audio.symbol_durations import likeliest_durations
from omnictl.nn.losses.monotonic import beta_binomial_prior, forward_sum_nats


def all_paths(frames: int, symbols: int) -> Iterator[list[int]]:
    """The symbol of every frame, of every monotonic path from the first symbol to the last."""
    for cuts in itertools.combinations(range(1, frames), symbols - 1):
        bounds = [0, *cuts, frames]
        yield [t for t in range(symbols) for _ in range(bounds[t + 1] - bounds[t])]


def random_log_probs(batch: int, frames: int, symbols: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, frames, symbols, generator=generator, dtype=torch.float64).log_softmax(-1)


def along(log_probs: Tensor, path: list[int]) -> float:
    return float(sum(log_probs[s, t] for s, t in enumerate(path)))


@pytest.mark.parametrize(("frames", "symbols"), [(1, 1), (4, 1), (5, 5), (7, 3), (8, 4)])
def test_the_forward_sum_is_that_of_all_paths(frames: int, symbols: int) -> None:
    log_probs = random_log_probs(1, frames, symbols)
    expected = -math.log(sum(math.exp(along(log_probs[0], path)) for path in all_paths(frames, symbols)))
    found = forward_sum_nats(log_probs, torch.tensor([frames]), torch.tensor([symbols]))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_padding_changes_no_sum_and_a_text_too_long_has_none() -> None:
    log_probs = random_log_probs(3, 9, 6)
    lengths, texts = torch.tensor([9, 6, 3]), torch.tensor([6, 4, 5])
    padded = log_probs.clone()
    padded[1, 6:], padded[1, :, 4:] = 3.0, -1e4
    sums = forward_sum_nats(padded.log_softmax(-1), lengths, texts)
    alone = forward_sum_nats(log_probs[1:2, :6, :4].log_softmax(-1), lengths[1:2], texts[1:2])
    torch.testing.assert_close(sums[1:2], alone)
    assert sums[2].isinf()


def test_the_sum_has_the_gradient_of_finite_differences() -> None:
    scores = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)

    def sums(scores: Tensor) -> Tensor:
        return forward_sum_nats(scores.log_softmax(-1), torch.tensor([5]), torch.tensor([3]))

    assert torch.autograd.gradcheck(sums, scores)


@pytest.mark.parametrize(("frames", "symbols"), [(1, 1), (5, 5), (7, 3), (8, 4)])
def test_durations_are_those_of_the_likeliest_path(frames: int, symbols: int) -> None:
    log_probs = random_log_probs(1, frames, symbols)
    best = max(all_paths(frames, symbols), key=lambda path: along(log_probs[0], path))
    found = likeliest_durations(log_probs.numpy().astype(np.float32), np.array([frames]), np.array([symbols]))
    assert found[0].tolist() == [best.count(t) for t in range(symbols)]


def test_durations_ignore_padding_and_add_up() -> None:
    log_probs = random_log_probs(2, 9, 6).numpy().astype(np.float32)
    found = likeliest_durations(log_probs, np.array([9, 5]), np.array([6, 3]))
    alone = likeliest_durations(log_probs[1:, :5, :3], np.array([5]), np.array([3]))
    assert found[1].tolist() == [*alone[0].tolist(), 0, 0, 0]
    assert found.sum(1).tolist() == [9, 5]
    assert (found[0] >= 1).all()


def test_the_prior_is_beta_binomial() -> None:
    frames, symbols = 7, 4
    prior = beta_binomial_prior(torch.tensor([frames, 5]), torch.tensor([symbols, 2]), frames, symbols)

    def ln_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    for s, t in itertools.product(range(frames), range(symbols)):
        a, b, n = s + 1, frames - s, symbols - 1
        expected = math.log(math.comb(n, t)) + ln_beta(t + a, n - t + b) - ln_beta(a, b)
        assert float(prior[0, s, t]) == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(prior[0].exp().sum(-1), torch.ones(frames), atol=1e-4, rtol=0)
    torch.testing.assert_close(prior[1, :5, :2].exp().sum(-1), torch.ones(5), atol=1e-4, rtol=0)
    assert (prior[1, :, 2:].exp() == 0).all()
    assert prior[0, 0].argmax() == 0
    assert prior[0, -1].argmax() == symbols - 1
