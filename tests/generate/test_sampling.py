from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from omnictl.generate.sampling import SamplingConfig, choose_token

PROBABILITIES = [0.05, 0.4, 0.1, 0.25, 0.2]
LOGITS = torch.tensor(PROBABILITIES).log()
ALL = SamplingConfig(temperature=1, top_p=1)


def candidates(config: SamplingConfig, logits: Tensor = LOGITS, previous: tuple[int, ...] = ()) -> dict[int, float]:
    """The probability with which each token is drawn, read off at the draw itself."""
    offered: list[Tensor] = []

    def first(weights: Tensor, count: int, *, generator: Any) -> Tensor:
        offered.append(weights)
        return torch.tensor([len(offered) - 1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "multinomial", first)
        choose_token(logits, config, previous=previous, generator=torch.Generator())
    weights = (offered[0] / offered[0].sum()).tolist()
    ids = logits.argsort(descending=True, stable=True).tolist()
    return {token: weight for token, weight in zip(ids, weights, strict=True) if weight > 0}


def test_temperature_zero_takes_the_likeliest() -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        assert choose_token(LOGITS, SamplingConfig(temperature=0), previous=(), generator=generator) == 1


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, {0, 1, 2, 3, 4}),
        (1, 1.0, {1}),
        (3, 1.0, {1, 3, 4}),
        (99, 1.0, {0, 1, 2, 3, 4}),
        (0, 0.01, {1}),  # the likeliest is always in
        (0, 0.39, {1}),
        (0, 0.41, {1, 3}),  # the one that crosses p is in
        (0, 0.64, {1, 3}),
        (0, 0.66, {1, 3, 4}),
        (2, 0.9, {1, 3}),
        (4, 0.5, {1, 3}),
    ],
)
def test_top_k_and_top_p_keep_the_right_tokens_in_proportion(top_k: int, top_p: float, kept: set[int]) -> None:
    chances = candidates(ALL.model_copy(update={"top_k": top_k, "top_p": top_p}))
    total = sum(PROBABILITIES[token] for token in kept)
    assert chances == pytest.approx({token: PROBABILITIES[token] / total for token in kept}, rel=1e-5)


def test_temperature_raises_probabilities_to_its_inverse() -> None:
    chances = candidates(ALL.model_copy(update={"temperature": 0.5}))
    total = sum(p**2 for p in PROBABILITIES)
    assert chances == pytest.approx({token: p**2 / total for token, p in enumerate(PROBABILITIES)}, rel=1e-5)


def test_repetition_penalty_moves_seen_tokens_away_from_the_top_once() -> None:
    logits = torch.tensor([2.0, -1.0, 1.5, 0.0])
    penalised = torch.tensor([2.0 / 4, -1.0 * 4, 1.5, 0.0]).softmax(-1)
    chances = candidates(ALL.model_copy(update={"repetition_penalty": 4.0}), logits, previous=(0, 1, 1, 0))
    assert sorted(chances.values()) == pytest.approx(sorted(penalised.tolist()), rel=1e-5)
    greedy = SamplingConfig(temperature=0, repetition_penalty=4.0)
    assert choose_token(logits, greedy, previous=(0,), generator=torch.Generator()) == 2
    assert logits.tolist() == [2.0, -1.0, 1.5, 0.0]  # the caller's scores stay as they are


def test_draws_follow_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [choose_token(LOGITS, ALL, previous=(), generator=generator) for _ in range(4000)]
    shares = torch.bincount(torch.tensor(draws), minlength=5) / 4000
    torch.testing.assert_close(shares, torch.tensor(PROBABILITIES), atol=0.03, rtol=0)  # four standard deviations


def test_the_same_seed_draws_the_same_tokens() -> None:
    def draws(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return [choose_token(LOGITS, ALL, previous=(), generator=generator) for _ in range(50)]

    assert draws(3) == draws(3) != draws(4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_any_dtype_do(dtype: torch.dtype) -> None:
    config = SamplingConfig(temperature=0.7, top_k=1, repetition_penalty=1.2)
    assert choose_token(LOGITS.to(dtype), config, previous=(0,), generator=torch.Generator()) == 1


@pytest.mark.parametrize("wrong", [{"temperature": -0.1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"repetition_penalty": 0.9}])
def test_settings_without_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SamplingConfig.model_validate(wrong)
