from dataclasses import replace

import pytest
import torch
from regression import Regression
from torch import Tensor, nn

from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, add_gradients, normalise
from omnictl.trainer.optim.lanes import Lanes
from omnictl.trainer.stage import LossSum, Work

FP32 = Precision("fp32", "")
IDS = [5, 3, 8, 13, 21, 34, 55]


def gradients(stage: Regression, micro_batch: int, lanes: int = 1) -> tuple[list[Tensor], float, dict[str, float]]:
    stage.model.zero_grad(set_to_none=True)
    scaler, threads = FP32.scaler(torch.device("cpu")), Lanes(lanes)
    sums = accumulate(stage, map(stage.collate, micro_batches(IDS, micro_batch)), precision=FP32, scaler=scaler, lanes=threads)
    threads.close()
    normalise(list(stage.model.parameters()), sums.count, clip_norm=1e9)
    targets = int(stage.counts[IDS].sum())
    assert (sums.work, sums.count) == (Work(7.0, 7000.0, positions=targets, slots=28), targets)
    return [p.grad for p in stage.model.parameters() if p.grad is not None], sums.loss, sums.scalar_means()


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 6, 100])
def test_any_split_gives_the_gradient_of_the_mean_over_all_targets(micro_batch: int, lanes: int) -> None:
    stage = Regression()
    loss = stage.loss(stage.collate(IDS))
    expected = torch.autograd.grad(loss.sum / loss.count, list(stage.model.parameters()))
    got, mean, scalars = gradients(stage, micro_batch, lanes)
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
    assert mean == pytest.approx(loss.sum.item() / loss.count, rel=1e-6)
    assert scalars == pytest.approx({"absolute": loss.scalars["absolute"].item() / loss.count}, rel=1e-6)


def test_a_list_of_micro_batches_is_gone_through_once() -> None:
    stage = Regression()
    made = [stage.collate(ids) for ids in micro_batches(IDS, 3)]
    sums = accumulate(stage, made, precision=FP32, scaler=FP32.scaler(torch.device("cpu")))
    assert sums.count == int(stage.counts[IDS].sum())


@pytest.mark.parametrize("lanes", [2, 3])
def test_gradients_of_lanes_add_up_in_order(lanes: int) -> None:
    """Bit for bit, whichever lane is done first."""
    stage = Regression()
    expected, loss, _ = gradients(stage, micro_batch=1)
    for _ in range(20):
        got, again, _ = gradients(stage, micro_batch=1, lanes=lanes)
        assert again == loss
        assert all(torch.equal(one, two) for one, two in zip(got, expected, strict=True))


def test_gradients_of_another_memory_order_move_the_right_numbers() -> None:
    """Fused AdamW reads a gradient in its parameter's order."""
    torch.manual_seed(0)
    parameter, gradient = nn.Parameter(torch.zeros(4, 3, 2, 2)), torch.randn(4, 3, 2, 2)
    add_gradients([(parameter, gradient.to(memory_format=torch.channels_last))])
    torch.optim.AdamW([parameter], lr=1.0, weight_decay=0.0, fused=True).step()
    torch.testing.assert_close(parameter.detach(), -gradient.sign(), atol=1e-5, rtol=0)


class Deaf(Regression):
    """Nothing of the rows from 10 on can be learned, as projectors learn nothing of text."""

    def loss(self, batch: Tensor) -> LossSum:
        loss = super().loss(batch)
        return loss if int(batch.max()) < 10 else replace(loss, sum=loss.sum.detach())


@pytest.mark.parametrize("lanes", [1, 2])
def test_micro_batches_of_which_nothing_is_learned_still_count(lanes: int) -> None:
    stage = Deaf()
    loss = stage.loss(stage.collate([5, 3, 8]))
    count = int(stage.counts[IDS].sum())
    expected = torch.autograd.grad(loss.sum / count, list(stage.model.parameters()))
    got, _, _ = gradients(stage, micro_batch=3, lanes=lanes)
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_clipping_scales_the_whole_gradient_and_reports_its_norm() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([6.0, 0.0]), torch.tensor([8.0])  # the third has none
    assert normalise(parameters, count=2, clip_norm=1.0) == pytest.approx(5.0)  # (3, 4) before clipping
    assert parameters[0].grad.tolist() == pytest.approx([0.6, 0.0], rel=1e-4)
    assert parameters[1].grad.tolist() == pytest.approx([0.8], rel=1e-4)


def test_a_small_gradient_is_left_alone() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([0.5])
    assert normalise([parameter], count=1, clip_norm=1.0) == 0.5
    assert parameter.grad.tolist() == [0.5]
