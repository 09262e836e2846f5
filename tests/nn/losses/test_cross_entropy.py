from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnictl.nn.losses import cross_entropy
from omnictl.nn.losses.cross_entropy import IGNORE, cross_entropy_sum, score_rows

ROWS, WIDTH, VOCAB = 37, 6, 11


def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(VOCAB, (ROWS,), generator=generator)
    targets[::5] = IGNORE
    return hidden, weight, targets


@pytest.fixture(params=[VOCAB * 1000, VOCAB * 37, VOCAB * 10, VOCAB, 1], ids=["one", "exact", "four", "single", "tiny"])
def max_logits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    limit = int(request.param)
    monkeypatch.setattr(cross_entropy, "MAX_LOGITS", limit)
    return limit


@pytest.mark.usefixtures("max_logits")
def test_value_and_gradients_are_those_of_the_plain_loss() -> None:
    hidden, weight, targets = problem()
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum")
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))
    loss = cross_entropy_sum(hidden, weight, targets)
    gradients = torch.autograd.grad(loss, (hidden, weight))
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


def test_never_more_logits_at_once_than_allowed(max_logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    linear = F.linear

    def recorded(*args: Any) -> Tensor:
        out = linear(*args)
        sizes.append(out.numel())
        return out

    monkeypatch.setattr(F, "linear", recorded)
    hidden, weight, targets = problem()
    torch.autograd.backward(cross_entropy_sum(hidden, weight, targets))
    score_rows(hidden.detach(), weight.detach(), targets.clamp(min=0))
    assert max(sizes) <= max(max_logits, VOCAB)  # a row cannot be cut
    num_chunks = -(-ROWS // max(1, max_logits // VOCAB))
    assert len(sizes) == 2 * num_chunks  # training and scoring, each once


def test_chunks_logits_are_not_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "MAX_LOGITS", VOCAB * 10)
    hidden, weight, targets = problem()
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        cross_entropy_sum(hidden, weight, targets)
    assert max(kept, default=0) < ROWS * VOCAB
    assert VOCAB * 10 not in kept


@pytest.mark.usefixtures("max_logits")
def test_scored_rows_are_nats_and_whether_no_other_was_likelier() -> None:
    hidden, weight, targets = problem()
    targets = targets.clamp(min=0)
    targets[::2] = (hidden @ weight.T).argmax(-1)[::2]
    scores = score_rows(hidden.detach(), weight.detach(), targets)
    log_probs = (hidden @ weight.T).log_softmax(-1)
    torch.testing.assert_close(scores.nats, -log_probs[torch.arange(ROWS), targets].detach())
    assert scores.is_likeliest.tolist() == (log_probs.argmax(-1) == targets).tolist()
    assert 0.5 < scores.is_likeliest.double().mean() < 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_fp32(dtype: torch.dtype) -> None:
    hidden = torch.zeros(70_000, 2, dtype=dtype)  # 70,000 × ln 4 is beyond fp16, and bf16 would round it
    loss = cross_entropy_sum(hidden, torch.ones(4, 2, dtype=dtype), torch.zeros(70_000, dtype=torch.int64))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(70_000 * 1.3862943611, rel=1e-4)


def test_nothing_scored_is_zero() -> None:
    hidden, weight, targets = problem()
    assert cross_entropy_sum(hidden, weight, torch.full_like(targets, IGNORE)).item() == 0
