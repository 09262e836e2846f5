"""The training loop: one for all stages.

What follows a step has a fixed order (log, evaluate, save), so that a resumed run repeats it exactly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from omnictl.runs.run import Run, Status
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed.process_group import ALONE, ProcessGroup
from omnictl.trainer.log import Observer
from omnictl.trainer.plan.step_plan import StepPlanner
from omnictl.trainer.signals import Requests, listen_for_signals
from omnictl.trainer.stage import Report, Stage
from omnictl.trainer.trainer import Trainer


class Outcome(NamedTuple):
    """How a training run ended."""

    status: Status
    steps: int
    report: Report | None  # of the newest validation
    exit_code: int


def train(
    stage: Stage,
    config: TrainConfig,
    run: Run,
    *,
    device: torch.device,
    observer: Observer,
    max_steps: int | None = None,
    planner: StepPlanner | None = None,
    group: ProcessGroup = ALONE,
) -> Outcome:
    """Train a stage in its run directory, from its newest checkpoint if it has one.

    Args:
        stage: what to train; its model holds the initial weights.
        config: the resolved training settings.
        run: the directory, held under its lock meanwhile.
        device: where to compute.
        observer: told about every step.
        max_steps: total steps instead of the configured (or recorded) ones.
        planner: of the time that there is; the steps are what it plans, when all is ready and once more when the speed is known.
        group: the processes that train it together, all of which call this.

    Raises:
        ConfigError: there are more processes than examples in a batch.
        Diverged: a loss or gradient that is not finite.
        DiskFull: no space left.
        OutOfMemory: a step does not fit.
        RunError: another process writes to the run, or it is read-only.
        FailedElsewhere: another of the processes failed.
    """
    with _lock(run, group), listen_for_signals() as requests:
        trainer = Trainer(stage, config, run, device=device, observer=observer, group=group)
        state = trainer.state
        if max_steps is not None:
            state.steps = max_steps
        elif state.steps is None:
            state.steps = config.steps
        try:
            observer.begin(run, _facts(trainer), state.step)
            if planner is not None:
                trainer.follow(group.first(planner.begin))
            requested = _run_steps(trainer, requests, planner)
        finally:
            trainer.close()
        status: Status = "finished" if state.steps is not None and state.step >= state.steps else "interrupted"
        if group.is_main:
            run.update(status=status, steps=state.step)
        return Outcome(status, state.step, trainer.report, requested.exit_code)


@contextmanager
def _lock(run: Run, group: ProcessGroup) -> Iterator[None]:
    """Hold the run for writing, and note in it how this ends; both is the leading process's."""
    if not group.is_main:
        yield
        return
    with run.lock(), run.record_end():
        yield


def _run_steps(trainer: Trainer, requests: Requests, planner: StepPlanner | None) -> Requests:
    """Train until all steps are taken or a signal says to stop; returns what was asked for in the end."""
    state, config, group = trainer.state, trainer.config, trainer.group
    if state.step == 0 and state.best_step is None and trainer.evaluates_untrained:
        trainer.evaluate()  # untrained weights: the first point of the curve
    calibrated_at = max(state.step, trainer.setup.batches.typical_step) + trainer.calibration_steps
    requested = requests.of_all(group)
    while state.steps is None or state.step < state.steps:
        if requested.stop:
            trainer.save()
            return requested
        trainer.take_step()
        if state.step == calibrated_at:
            trainer.reconsider_precision()
            if planner is not None:
                trainer.fix_steps(planner)
            trainer.explain_speed()
        if state.step != state.steps and trainer.late():
            trainer.observer.note(f"out of time after {state.step} of {state.steps} steps")
            state.steps = state.step
        last = state.step == state.steps
        if last or state.step % trainer.eval_every == 0:
            trainer.evaluate()
        requested = requests.of_all(group)
        if last or state.step % config.save_every == 0 or requested.save:
            trainer.save()
    return requested


def _facts(trainer: Trainer) -> dict[str, str]:
    """What is worth knowing before the first step."""
    parameters = sum(p.numel() for p in trainer.optimizers.parameters)
    precision, plan = trainer.precision, trainer.plan
    facts = {
        "parameters": f"{parameters / 1e6:.2f}M",
        "device": f"{trainer.device}, {trainer.matmul_rate / 1e9:.0f} GFLOP/s in fp32",
        "precision": f"{precision.name} ({precision.reason})",
        "optimizer": trainer.optimizers.kind,
        "batch": f"{trainer.config.batch_size} = {trainer.config.batch_size / plan.micro_batch:g} × {plan.micro_batch}"
        + (f", {plan.lanes} at a time" if plan.lanes > 1 else ""),
    }
    if trainer.group.size > 1:
        facts["processes"] = (
            f"{trainer.group.size}, {len(trainer.setup.batches.ids(trainer.setup.batches.typical_step))} examples of a step each"
        )
    if plan.peak_bytes is not None and plan.budget_bytes is not None:
        recomputes = "" if plan.checkpointing == "off" else f", {plan.checkpointing} checkpointing"
        facts["memory"] = f"{plan.peak_bytes / 2**20:,.0f} MiB a step of {plan.budget_bytes / 2**20:,.0f} MiB{recomputes}"
    return facts
