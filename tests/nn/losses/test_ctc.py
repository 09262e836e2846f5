import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from omnictl.nn.losses.ctc import BLANK, ctc_nats, ctc_sum, min_frames

FRAMES, VOCAB = 5, 3
LENGTHS = [5, 3, 4, 5, 1]
TARGETS = [(1, 1, 2), (2,), (1, 1), (), (2,)]


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK)


def label_probabilities(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """The definition: the summed probability of all paths that collapse to each target."""
    rows = log_probs.double().exp().tolist()
    result: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(len(rows[0])), repeat=len(rows)):
        result[collapsed(path)] += math.prod(row[symbol] for row, symbol in zip(rows, path, strict=True))
    return result


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = 2 * torch.randn(len(TARGETS), FRAMES, VOCAB, dtype=dtype, generator=torch.Generator().manual_seed(0))
    targets = torch.full((len(TARGETS), 3), 2)  # the padding looks like a symbol
    for row, target in zip(targets, TARGETS, strict=True):
        row[: len(target)] = torch.tensor(target, dtype=torch.int64)
    return logits, torch.tensor(LENGTHS), targets, torch.tensor([len(target) for target in TARGETS])


def test_is_the_sum_over_all_paths() -> None:
    logits, lengths, targets, target_lengths = problem()
    nats = ctc_nats(logits, lengths, targets, target_lengths)
    for row, target in enumerate(TARGETS):
        probabilities = label_probabilities(logits[row, : LENGTHS[row]].log_softmax(-1))
        assert sum(probabilities.values()) == pytest.approx(1)
        assert float(nats[row]) == pytest.approx(-math.log(probabilities[target]), rel=1e-12)


def test_sum_is_that_of_the_rows_whatever_they_are_batched_with() -> None:
    logits, lengths, targets, target_lengths = problem()
    rows = [
        ctc_sum(logits[i : i + 1, :length], lengths[i : i + 1], targets[i : i + 1], target_lengths[i : i + 1])
        for i, length in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(ctc_sum(logits, lengths, targets, target_lengths), torch.stack(rows).sum())


def test_gradient_is_that_of_finite_differences() -> None:
    logits, *rest = problem()
    assert torch.autograd.gradcheck(lambda x: ctc_nats(x, *rest), logits.requires_grad_())


def test_padding_frames_change_nothing_and_get_no_gradient() -> None:
    logits, lengths, targets, target_lengths = problem()
    inside = torch.arange(FRAMES) < lengths[:, None]
    results = []
    for garbage in (0.0, 1e4):
        padded = torch.cat([logits, torch.zeros(len(TARGETS), 3, VOCAB)], 1)
        padded[:, :FRAMES][~inside] = garbage
        padded[:, FRAMES:, 1] = garbage
        padded.requires_grad_()
        nats = ctc_nats(padded, lengths, targets, target_lengths)
        (gradient,) = torch.autograd.grad(nats.sum(), padded)
        results.append((nats, gradient))
        assert gradient[:, :FRAMES][~inside].count_nonzero() == 0 == gradient[:, FRAMES:].count_nonzero()
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    torch.testing.assert_close(results[0][0], ctc_nats(logits, lengths, targets, target_lengths), rtol=0, atol=0)


def test_a_batch_without_any_symbol_is_all_blanks() -> None:
    logits, lengths, _, _ = problem()
    logits.requires_grad_()
    nothing = torch.zeros(len(TARGETS), 0, dtype=torch.int64)
    nats = ctc_nats(logits, lengths, nothing, torch.zeros(len(TARGETS), dtype=torch.int64))
    expected = [-row[:length, BLANK].sum() for row, length in zip(logits.log_softmax(-1), LENGTHS, strict=True)]
    torch.testing.assert_close(nats, torch.stack(expected))
    (gradient,) = torch.autograd.grad(nats.sum(), logits)
    torch.testing.assert_close(gradient, *torch.autograd.grad(torch.stack(expected).sum(), logits))


@pytest.mark.parametrize(("target", "frames"), [((), 0), ((1,), 1), ((1, 2, 1), 3), ((1, 1), 3), ((1, 1, 1, 2, 2), 8)])
def test_frames_needed_are_those_from_which_on_it_is_finite(target: tuple[int, ...], frames: int) -> None:
    assert min_frames(target) == frames
    ids = torch.tensor([target], dtype=torch.int64)
    for length in range(max(frames - 1, 1), frames + 2):
        nats = ctc_nats(torch.zeros(1, length, VOCAB), torch.tensor([length]), ids, torch.tensor([len(target)]))
        assert bool(nats.isfinite()) == (length >= frames)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_fp32_under_autocast_too(dtype: torch.dtype) -> None:
    logits, *rest = problem(dtype)
    expected = ctc_sum(logits.double(), *rest)
    with torch.autocast("cpu", dtype):
        loss = ctc_sum(logits, *rest)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
