"""Passes and steps without lasting effects, to time number formats and confirm memory plans."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from omnictl.nn.batch_statistics import forget_batch_statistics
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.hardware.device import wait_for
from omnictl.trainer.hardware.precision import Precision, best_seconds, choose_precision
from omnictl.trainer.optim.gradient import forward, normalise
from omnictl.trainer.optim.optimizers import Optimizers
from omnictl.trainer.stage import Batches, Stage

TRIAL_EXAMPLES = 32
"""Examples of the first batch on which number formats are timed."""

TRIAL_SECONDS = 6.0
"""That the trials of all formats may take, once each has been timed as often as it must be."""

TRIAL_SHARE = 0.05
"""And of the time that the training itself takes, as configured."""

LEAST_TURNS, MOST_TURNS = 2, 8
"""Times that a format is timed, at least and at most."""


@contextmanager
def without_trace(model: nn.Module) -> Iterator[None]:
    """Passes in it leave no gradients and no statistics, and weights learn or stand still as they did before."""
    learns = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    yield
    model.zero_grad(set_to_none=True)
    forget_batch_statistics(model)
    for parameter, did in learns:  # a loss may keep some still for its batch
        parameter.requires_grad = did


def try_out(stage: Stage, batch: Any, precision: Precision, device: torch.device) -> None:
    """A forward and backward pass without a trace."""
    with without_trace(stage.model):
        torch.autograd.backward(forward(stage, batch, precision, device).sum)


def precision_for(
    stage: Stage,
    batches: Batches,
    config: TrainConfig,
    optimizer: str,
    device: torch.device,
    *,
    examples: int = TRIAL_EXAMPLES,
) -> Precision:
    """The number formats that the config asks for; with `auto`, on a CPU, those in which a step is fastest here.

    Args:
        stage: what is trained; its weights stay as they are.
        batches: of it.
        config: the training settings.
        optimizer: its kind, "adamw" or "muon".
        device: where to compute.
        examples: of the first batch, at most, on which formats are timed.

    Raises:
        ConfigError: the device cannot do what was requested.
    """
    return choose_precision(
        config.precision, device, partial(step_seconds, stage, batches, config, optimizer, device, examples=examples)
    )


def step_seconds(
    stage: Stage,
    batches: Batches,
    config: TrainConfig,
    optimizer: str,
    device: torch.device,
    formats: Sequence[Precision],
    *,
    examples: int,
) -> list[float]:
    """What a step takes in each format: passes over some examples, scaled to the whole batch, and the optimizer.

    Formats take turns, so that a machine that is busy for a moment does not decide for a whole run; the fastest turn counts.
    """
    ids = batches.ids(batches.typical_step)
    batch = batches.collate(ids[:examples])
    share = len(ids) / len(ids[:examples])
    passes, updates = [math.inf] * len(formats), [math.inf] * len(formats)
    stage.model.train()
    began = time.perf_counter()
    with torch.random.fork_rng():
        for turn in range(MOST_TURNS + 1):
            for number, precision in enumerate(formats):
                passing = best_seconds(partial(_pass, stage, batch, precision, device), rounds=1)
                updating = update_seconds(stage, config, optimizer, precision, device)
                if turn:  # the first one prepares kernels
                    passes[number], updates[number] = min(passes[number], passing), min(updates[number], updating)
            seconds = [share * passing + updating for passing, updating in zip(passes, updates, strict=True)]
            if turn >= LEAST_TURNS and time.perf_counter() - began > min(TRIAL_SECONDS, TRIAL_SHARE * config.steps * min(seconds)):
                break
    return seconds


def _pass(stage: Stage, batch: Any, precision: Precision, device: torch.device) -> None:
    try_out(stage, batch, precision, device)
    wait_for(device)


def update_seconds(stage: Stage, config: TrainConfig, optimizer: str, precision: Precision, device: torch.device) -> float:
    """What clipping and an optimizer's step take, tried with gradients of zeros and a rate of zero, which move nothing."""
    optimizers = Optimizers(stage.model, config, optimizer, precision.optimizer_dtype)
    optimizers.set_factor(0.0)

    def update() -> None:
        for parameter in optimizers.parameters:
            parameter.grad = torch.zeros_like(parameter)
        normalise(optimizers.parameters, 1, config.clip_norm)
        for part in optimizers.parts:
            part.step()
        wait_for(device)

    seconds = best_seconds(update, rounds=2)
    optimizers.zero_grad()
    return seconds
