"""What a step takes, traced without taking it."""

import pytest
import torch
from regression import CONFIG, Regression
from stage_factory import make_stage
from test_loop import changed, weights
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from omnictl.nn.recompute import Checkpointing, set_checkpointing
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.optim.optimizers import Optimizers
from omnictl.trainer.plan import memory_trace
from omnictl.trainer.plan.memory_trace import Peak, trace_passes, trace_step

FP32 = Precision("fp32", "for the test")
WIDE = 4096


def traced(stage: Regression, size: int, *, accumulates: bool = False, average: float = 0.0) -> Peak:
    config = changed(CONFIG, average=average)
    batch = stage.collate(stage.largest(size))
    return trace_step(stage, batch, config, optimizer="adamw", precision=FP32, accumulates=accumulates)


def num_bytes(stage: Regression) -> int:
    return sum(parameter.nbytes for parameter in stage.model.parameters())


def test_what_lasts_through_a_step_is_counted_to_the_byte() -> None:
    stage = Regression()
    steps = 4 * len(list(stage.model.parameters()))  # of Adam, fp32 numbers
    found = traced(stage, 8)
    assert found.parts["parameters"] == found.model_bytes == num_bytes(stage)
    assert found.parts["optimizer"] == 2 * num_bytes(stage) + steps
    assert traced(stage, 8, average=0.9).parts["optimizer"] == 3 * num_bytes(stage) + steps
    assert found.total == sum(found.parts.values())


class Spread(nn.Module):
    """`(B, D)` to `(B, D)` by way of `(B, WIDE, D)`."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] * torch.ones(1, WIDE, 1, dtype=x.dtype)).tanh().mean(1)


class Wide(Regression):
    """Activations far larger than the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 4), Spread())


@pytest.mark.parametrize("size", [2, 4, 8])
def test_activations_are_what_the_backward_pass_keeps(size: int) -> None:
    """At the fullest moment: the output of tanh, the gradient that arrives at it and the one that goes on."""
    grows = traced(Wide(), size).total - traced(Wide(), 1).total
    assert grows == pytest.approx(3 * WIDE * 4 * 4 * (size - 1), rel=0.02)


def test_gradients_of_earlier_micro_batches_count() -> None:
    stage = Wide()
    assert traced(stage, 8, accumulates=True).total == traced(stage, 8).total + num_bytes(stage)


def test_an_evaluation_keeps_nothing_for_a_backward_pass() -> None:
    """At the fullest moment: what goes into tanh and what comes out, of 64 rows, and the moments of earlier steps."""
    stage = Wide()
    stage.evaluated = 64
    passes = [*stage.heaviest_passes(stage)] * 2  # one after the other
    found = trace_passes(stage, passes, CONFIG, optimizer="adamw", precision=FP32)
    moments = traced(stage, 1).parts["optimizer"]
    assert found.model_bytes == num_bytes(stage)
    assert found.extra_bytes - moments == pytest.approx(2 * 64 * WIDE * 4 * 4, rel=0.02)
    assert not any(parameter.grad is not None for parameter in stage.model.parameters())


def test_tracing_leaves_no_trace() -> None:
    stage = Regression()
    before, state = weights(stage), torch.get_rng_state()
    parameters = list(stage.model.parameters())
    traced(stage, 8)
    assert all(parameter is now for parameter, now in zip(parameters, stage.model.parameters(), strict=True))
    assert all(torch.equal(one, two) for one, two in zip(before, weights(stage), strict=True))
    assert all(parameter.grad is None for parameter in parameters)
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_weights_are_counted_and_have_no_gradients() -> None:
    stage = Wide()
    whole = traced(stage, 8)
    stage.model[0].weight.requires_grad_(requires_grad=False)
    found = traced(stage, 8)
    assert found.model_bytes == whole.model_bytes == num_bytes(stage)
    assert found.parts["optimizer"] < whole.parts["optimizer"]


def test_shared_weights_are_counted_once() -> None:
    stage = Regression()
    once = traced(stage, 8).parts["parameters"]
    stage.model[0].again = stage.model[0].weight
    assert traced(stage, 8).parts["parameters"] == once


def test_the_optimizer_that_is_traced_is_the_one_that_trains() -> None:
    stage = Regression()
    optimizers = Optimizers(stage.model, CONFIG, "adamw")
    batch: Tensor = stage.collate(stage.ids(0))
    torch.autograd.backward(stage.loss(batch).sum)
    for part in optimizers.parts:
        part.step()
    assert traced(stage, 8).parts["optimizer"] == sum(tensor.nbytes for tensor in optimizers.state_tensors().values())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), [("pretrain", "off"), ("pretrain", "full"), ("sft", "off")])
def test_the_peak_is_that_of_torchs_own_tracker(name: str, mode: Checkpointing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which keeps the peak of each module, too."""
    stage = make_stage(name)
    set_checkpointing(stage.model, mode)
    batches = stage.batches()
    batch = batches.collate(batches.largest(4))

    def peak() -> Peak:
        return trace_step(stage, batch, stage.config.train, optimizer="muon", precision=FP32, accumulates=True)

    lean = peak()
    monkeypatch.setattr(memory_trace, "_PeakTracker", MemTracker)
    assert peak() == lean
