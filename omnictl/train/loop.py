"""The training loop: one for all stages.

A step takes the whole batch's gradient, checks that everything is finite, and only then lets the optimizer move. What follows a
step has a fixed order (log, evaluate, save), so that a resumed run repeats it exactly.
"""

import math
import statistics
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch

from omnictl.errors import Diverged
from omnictl.nn.recompute import set_checkpointing
from omnictl.nn.statistics import apply_batch_statistics
from omnictl.runs.files import write_json, writing
from omnictl.runs.run import Run, Status
from omnictl.train.checkpoint import (
    TrainState,
    discard_drafts,
    load_checkpoint,
    newest_sound_checkpoint,
    plain_state_dict,
    save_checkpoint,
    save_tensors,
)
from omnictl.train.config import TrainConfig
from omnictl.train.device import peak_memory
from omnictl.train.feed import Feed
from omnictl.train.gradient import Accumulated, accumulate, normalise
from omnictl.train.log import Observer, RunLog, StepRecord, cut_after
from omnictl.train.memory import MemoryPlan, plan_memory
from omnictl.train.optim import Optimizers, choose_optimizer
from omnictl.train.precision import Precision, choose_precision, matmul_rate
from omnictl.train.schedule import learning_rate_factor
from omnictl.train.signals import Requests, listening
from omnictl.train.stage import Report, Stage

MAX_SKIPPED_STEPS = 50
"""fp16 only: so many steps in a row may overflow while the loss scale is found."""

CALIBRATION_STEPS = 10
"""With a deadline, the steps whose speed fixes the total."""

TRIAL_EXAMPLES = 32
"""Examples of the first batch on which number formats are timed."""

TIME_RESERVE = 0.05
"""Share of the remaining time left unplanned, for machines that slow down."""


class Outcome(NamedTuple):
    """How a training run ended."""

    status: Status
    steps: int
    report: Report | None  # of the newest validation
    exit_code: int


@dataclass
class Seconds:
    """How long things take in this run."""

    steps: deque[float]
    evaluate: float = 0.0
    save: float = 0.0

    @property
    def step(self) -> float:
        """A typical recent step."""
        return statistics.median(self.steps) if self.steps else 0.0

    @property
    def slow_step(self) -> float:
        """A recent step, rather too long than too short."""
        return max(self.step, self.steps[-1]) if self.steps else 0.0


class Trainer:
    """What one training run holds while it runs, and the things it does; `train` below is its life."""

    def __init__(self, stage: Stage, config: TrainConfig, run: Run, *, device: torch.device, observer: Observer) -> None:
        self.stage, self.config, self.run, self.device, self.observer = stage, config, run, device, observer
        record = run.record()
        if config.runtime.deterministic:
            torch.use_deterministic_algorithms(mode=True)
        stage.model.to(device)
        self.batches = stage.batches()
        kind = record.get("optimizer") or choose_optimizer(config, stage.model, self._first_step_flops())
        self.optimizers = Optimizers(stage.model, config, kind)  # before any loss, in which a stage may keep some weights still
        self.precision = Precision(*record["precision"]) if "precision" in record else self._choose_precision()
        self.scaler = self.precision.scaler(device)
        self.plan = MemoryPlan(**record["memory"]) if "memory" in record else self._plan_memory(kind)
        self.micro_batch = self.plan.micro_batch
        set_checkpointing(stage.model, self.plan.checkpointing)
        self.matmul_rate = matmul_rate(device)
        self.state = self._restore()
        self.log = RunLog(run, tensorboard=config.runtime.tensorboard)
        self.report: Report | None = None
        self.seconds = Seconds(deque(maxlen=CALIBRATION_STEPS - 2))  # the first two warm caches up
        self.skipped = 0
        run.update(precision=list(self.precision), optimizer=kind, memory=self.plan._asdict(), status="running", device=str(device))
        if config.runtime.compile:
            stage.model.compile()
        self.feed = Feed(self.batches, micro_batch=self.micro_batch, first_step=self.state.step, workers=config.runtime.workers)

    def _choose_precision(self) -> Precision:
        batch = self.batches.collate(self.batches.ids(0)[:TRIAL_EXAMPLES])
        self.stage.model.eval()  # no dropout, no statistics: the trial leaves no trace

        def trial(precision: Precision) -> None:
            with precision.autocast(self.device):
                loss = self.stage.loss(batch)
            torch.autograd.backward(loss.sum)
            self.stage.model.zero_grad(set_to_none=True)

        return choose_precision(self.config.precision, self.device, trial)

    def _plan_memory(self, optimizer: str) -> MemoryPlan:
        """What fits, found once: a resumed run goes on with it."""
        for parameter in self.optimizers.parameters:
            parameter.requires_grad = True  # the first batch, on which formats were timed, may keep some still
        return plan_memory(self.stage, self.batches, self.config, optimizer=optimizer, precision=self.precision, device=self.device)

    def _first_step_flops(self) -> float:
        """Work of the first batch, which decides whether Muon is worth its price."""
        return self.stage.work(self.batches.collate(self.batches.ids(0))).flops

    def _restore(self) -> TrainState:
        """State of the newest sound checkpoint, loaded, with both logs cut to it; a fresh state if there is none."""
        discard_drafts(self.run)
        folder = newest_sound_checkpoint(self.run, self.observer.note)
        if folder is None:
            torch.manual_seed(self.config.seed)
            state = TrainState()
        else:
            state = load_checkpoint(folder, self.stage.model, self.optimizers, self.device)
            if state.scaler:
                self.scaler.load_state_dict(state.scaler)
        cut_after(self.run.metrics_file, state.step if folder else -1)
        cut_after(self.run.timings_file, state.step if folder else -1)
        return state

    def take_step(self) -> None:
        """One optimizer step, logged."""
        began = time.perf_counter()
        schedule, state = self.config.schedule, self.state
        factor = learning_rate_factor(
            state.step, steps=state.steps, warmup=schedule.warmup_steps, decay_fraction=schedule.decay_fraction
        )
        self.optimizers.set_factor(factor)
        self.stage.model.train()
        sums = accumulate(self.stage, self.feed.step(state.step), precision=self.precision, scaler=self.scaler)
        for part in self.optimizers.parts:
            self.scaler.unscale_(part)
        norm = normalise(self.optimizers.parameters, sums.count, self.config.clip_norm)
        if self._may_move(sums.loss, norm):
            for part in self.optimizers.parts:
                self.scaler.step(part)
            self.optimizers.average(state.step)
        self.scaler.update()
        apply_batch_statistics(self.stage.model)
        self.optimizers.zero_grad()
        state.step += 1
        self._record(sums, norm, factor, time.perf_counter() - began)

    def _may_move(self, loss: float, norm: float) -> bool:
        """Whether the optimizer may move; an fp16 overflow skips the step while the loss scale is found.

        Raises:
            Diverged: loss or gradient are not finite.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            self.skipped = 0
            return True
        self.skipped += 1
        if self.scaler.is_enabled() and self.skipped <= MAX_SKIPPED_STEPS:
            return False
        raise self._diverged(f"loss {loss:.4g}, gradient norm {norm:.4g}, expected finite numbers; the weights were not touched")

    def _diverged(self, found: str) -> Diverged:
        config, step = self.config, self.state.step + 1
        return Diverged(
            f"step {step}: {found}",
            where=f"{self.run.path}, step {step}",
            fix=f"lower the learning rates (--set train.lr={config.lr / 3:.2g} --set train.muon_lr={config.muon_lr / 3:.2g}), "
            "or use --set train.precision=fp32",
        )

    def _record(self, sums: Accumulated, norm: float, factor: float, seconds: float) -> None:
        """Tell logs and observer about the step just taken."""
        state, config = self.state, self.config
        if self.skipped:
            metrics = {"skipped": 1.0, "loss_scale": self.scaler.get_scale()}
        else:
            metrics = {"loss": sums.loss, **sums.scalar_means(), "grad_norm": norm}
        metrics["lr"] = factor * config.lr
        timings = {
            "seconds": seconds,
            f"{self.stage.unit}_per_second": sums.work.units / seconds,
            "matmul_share": sums.work.flops / seconds / self.matmul_rate,
            "data_wait_share": sums.data_seconds / seconds,
            "padding_share": 1 - sums.work.positions / sums.work.slots,
            "memory_bytes": peak_memory(self.device),
        }
        self.seconds.steps.append(seconds)
        if state.step % config.runtime.log_every == 0 or state.step == state.steps:
            self.log.metrics(state.step, metrics, split="train")
            self.log.timings(state.step, timings)
        self.observer.step(StepRecord(state.step, state.steps, metrics, timings))

    def evaluate(self) -> None:
        """Validate, log, and keep the model if it is the best so far; of averaged weights the average."""
        with self.optimizers.averaged():
            self._evaluate()

    def _evaluate(self) -> None:
        began, state = time.perf_counter(), self.state
        self.stage.model.eval()
        with torch.no_grad(), self.precision.autocast(self.device):
            report = self.stage.validate()
        if not math.isfinite(report.value):
            raise self._diverged(f"{report.headline} is {report.value} on the validation split, expected a finite number")
        self.log.metrics(state.step, dict(report.metrics), split="val")
        sign = 1.0 if report.better == "lower" else -1.0
        is_best = state.best_value is None or sign * report.value < sign * state.best_value
        if is_best:
            state.best_step, state.best_value = state.step, report.value
            self._keep_model(report)
        self.report = report
        self.observer.evaluated(state.step, report, is_best=is_best)
        self.seconds.evaluate = time.perf_counter() - began

    def _keep_model(self, report: Report) -> None:
        draft, final = self.run.model / ".model.tmp", self.run.model / "model.safetensors"
        save_tensors(plain_state_dict(self.stage.model), draft)
        with writing(final):
            draft.replace(final)
        write_json(self.run.path / "best.json", {"step": self.state.step, report.headline: report.value})

    def save(self) -> None:
        """Write a checkpoint of the present step."""
        began = time.perf_counter()
        self.state.scaler = self.scaler.state_dict() or None
        save_checkpoint(self.run, self.stage.model, self.optimizers, self.state, self.device, keep=self.config.runtime.keep)
        self.seconds.save = time.perf_counter() - began

    def fix_steps(self, deadline: float) -> None:
        """Fix the total number of steps from the speed seen so far; a resume finds it in the checkpoint."""
        self.save()
        config, seconds = self.config, self.seconds
        left = (deadline - time.monotonic()) * (1 - TIME_RESERVE) - seconds.evaluate - 2 * seconds.save
        each = seconds.step + seconds.evaluate / config.eval_every + seconds.save / config.save_every
        self.state.steps = min(config.steps, self.state.step + max(1, int(left / each)))
        self.save()
        self.observer.note(f"{self.state.steps} steps fit into the time given")

    def late(self, deadline: float | None) -> bool:
        """Whether one more step would leave no time for the last evaluation and save."""
        seconds = self.seconds
        return deadline is not None and time.monotonic() + seconds.slow_step + seconds.evaluate + seconds.save > deadline


def train(
    stage: Stage,
    config: TrainConfig,
    run: Run,
    *,
    device: torch.device,
    observer: Observer,
    deadline: float | None = None,
    max_steps: int | None = None,
) -> Outcome:
    """Train a stage in its run directory, from its newest checkpoint if it has one.

    Args:
        stage: what to train; its model holds the initial weights.
        config: the resolved training settings.
        run: the directory, held under its lock meanwhile.
        device: where to compute.
        observer: told about every step.
        deadline: on `time.monotonic`'s clock; the number of steps is then measured, fixed and recorded.
        max_steps: total steps instead of the configured (or recorded) ones.

    Raises:
        Diverged: a loss or gradient that is not finite.
        DiskFull: no space left.
        RunError: another process writes to the run, or it is read-only.
    """
    with run.lock(), run.end_recorded(), listening() as requests:
        trainer = Trainer(stage, config, run, device=device, observer=observer)
        state = trainer.state
        if max_steps is not None:
            state.steps = max_steps
        elif state.steps is None and deadline is None:
            state.steps = config.steps
        try:
            observer.begin(run, _facts(trainer), state.step)
            status = _run_steps(trainer, requests, deadline)
        finally:
            trainer.feed.close()
            trainer.log.close()
        run.update(status=status, steps=state.step)
        return Outcome(status, state.step, trainer.report, requests.exit_code if status == "interrupted" else 0)


def _run_steps(trainer: Trainer, requests: Requests, deadline: float | None) -> Status:
    state, config = trainer.state, trainer.config
    if state.best_step is None:
        trainer.evaluate()  # untrained weights: the first point of the curve
    while state.steps is None or state.step < state.steps:
        if requests.stop:
            trainer.save()
            return "interrupted"
        trainer.take_step()
        if deadline is not None and state.steps is None and state.step == CALIBRATION_STEPS:
            trainer.fix_steps(deadline)
        if state.step != state.steps and trainer.late(deadline):
            trainer.observer.note(f"out of time after {state.step} of {state.steps or config.steps} steps")
            state.steps = state.step
        last = state.step == state.steps
        if last or state.step % config.eval_every == 0:
            trainer.evaluate()
        if last or state.step % config.save_every == 0 or requests.save:
            trainer.save()
            requests.save = False
    return "finished"


def _facts(trainer: Trainer) -> dict[str, str]:
    """What is worth knowing before the first step."""
    parameters = sum(p.numel() for p in trainer.optimizers.parameters)
    precision, plan = trainer.precision, trainer.plan
    facts = {
        "parameters": f"{parameters / 1e6:.2f}M",
        "device": f"{trainer.device}, {trainer.matmul_rate / 1e9:.0f} GFLOP/s in fp32",
        "precision": f"{precision.name} ({precision.reason})",
        "optimizer": trainer.optimizers.kind,
        "batch": f"{trainer.config.batch_size} = {trainer.config.batch_size / trainer.micro_batch:g} × {trainer.micro_batch}",
    }
    if plan.peak_bytes is not None and plan.budget_bytes is not None:
        recomputes = "" if plan.checkpointing == "off" else f", {plan.checkpointing} checkpointing"
        facts["memory"] = f"{plan.peak_bytes / 2**20:,.0f} MiB a step of {plan.budget_bytes / 2**20:,.0f} MiB{recomputes}"
    return facts
