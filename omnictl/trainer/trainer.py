"""The actions of a training run: take a step, evaluate, save; `trainer/loop.py` decides when.

A step takes the whole batch's gradient, checks that everything is finite, and only then lets the optimizer move.
"""

import math
import time
from collections import deque
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from omnictl.errors import Diverged
from omnictl.nn.batch_statistics import forget_batch_statistics, statistics_modules
from omnictl.runs.checksums import begins_with, describe_file, read_manifest
from omnictl.runs.files import write_json, writing
from omnictl.runs.run import Run
from omnictl.runs.weights_file import WEIGHTS
from omnictl.trainer.checkpoint import (
    TrainState,
    by_rank,
    checkpoint_of,
    damage,
    discard_drafts,
    generator_states,
    keep_weights,
    load_checkpoint,
    mend_model,
    newest_intact_checkpoint,
    plain_state_dict,
    save_checkpoint,
    set_generator_states,
    step_of,
)
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.hardware.device import forget_peak_memory, peak_memory
from omnictl.trainer.hardware.precision import matmul_rate
from omnictl.trainer.loader import Feed
from omnictl.trainer.log import Observer, RunLog, StepRecord, cut_after
from omnictl.trainer.optim.bad_steps import PATIENCE, PATIENCE_FP16, RECENT, is_far_out, log_bad_step, why_end
from omnictl.trainer.optim.gradient import GradientSums, accumulate, normalise, sum_over_processes
from omnictl.trainer.optim.lanes import Lanes
from omnictl.trainer.optim.schedule import learning_rate_factor
from omnictl.trainer.plan.micro_batch import is_out_of_memory, step_does_not_fit
from omnictl.trainer.plan.run_setup import check_divisible, settle
from omnictl.trainer.plan.step_plan import Speed, StepPlan, StepPlanner, plan_evaluations
from omnictl.trainer.samples import keep_samples
from omnictl.trainer.seconds import Seconds
from omnictl.trainer.stage import Report, Stage

CALIBRATION_STEPS = 10
"""With a deadline, the steps whose speed fixes the total."""

CONTRADICTION = 1.5
"""So many times as long as promised may the first steps take before number formats are timed again."""

SLOW = 0.5
"""Share of the machine's fp32 product rate below which a line says where the time goes."""

WORTH_A_LINE = 60.0
"""Seconds that a training must still take for that."""

NOTABLE_CHANGE = 0.1
"""Relative change of the planned steps from which on it is noted."""


class Trainer:
    """A training run: what it holds while it runs, and its actions; `train` in `trainer/loop.py` calls them in order.

    All processes of a group do the same things in the same order; what is written, the leading one writes.
    """

    def __init__(
        self, stage: Stage, config: TrainConfig, run: Run, *, device: torch.device, observer: Observer, group: ProcessGroup
    ) -> None:
        self.stage, self.config, self.run, self.device, self.observer, self.group = stage, config, run, device, observer, group
        check_divisible(config.batch_size, group)
        record = group.first(run.record)
        self.setup = settle(stage, config, record, device=device, group=group)
        self.precision, self.plan = self.setup.precision, self.setup.memory  # both may change under way
        self.scaler = self.precision.scaler(device)
        self.lanes = Lanes(self.plan.lanes)
        self.optimizers = self.setup.apply()
        self.matmul_rate = matmul_rate(device)
        self.state = self._restore()
        self.report: Report | None = None
        self.seconds = Seconds(deque(maxlen=CALIBRATION_STEPS - 2))  # the first two warm caches up
        self.eval_every: int = record.get("eval_every", config.eval_every)
        self.evaluates_untrained = True
        self.precision_settled: bool = record.get("precision_settled", False)
        self.step_plan: StepPlan | None = None
        self.shares = (0.0, 0.0)  # of the fp32 rate, and of padding, in the newest step
        if group.is_main:
            settled = self.setup.as_record() | {"loaded_bytes": record.get("loaded_bytes", forget_peak_memory(device))}
            run.update(**settled, status="running", device=str(device), processes=group.size)
        self.log = RunLog(run, config.runtime.trackers) if group.is_main else None
        if config.runtime.compile:
            stage.model.compile()
        self.feed = self._new_feed()

    def _new_feed(self) -> Feed:
        return Feed(
            self.setup.batches, micro_batch=self.plan.micro_batch, first_step=self.state.step, workers=self.config.runtime.workers
        )

    def _restore(self) -> TrainState:
        """State of the newest intact checkpoint, loaded, with both logs cut to it; a fresh state if there is none."""
        torch.manual_seed(self.config.seed + self.group.rank)
        folder = self.group.first(self._newest_checkpoint)
        if folder is None:
            if not self.setup.sliced:  # those were aligned before
                self.group.align([*self.stage.model.parameters(), *self.stage.model.buffers()])
            return TrainState()
        state = load_checkpoint(folder, self.stage.model, self.optimizers, self.device, rank=self.group.rank)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        if state.metrics is not None and self.group.is_main and not begins_with(self.run.metrics_file, state.metrics):
            self.observer.note(f"{self.run.metrics_file} is not as it was written up to step {state.step}: trust no curve of it")
        if not self.setup.sliced:
            self.group.first(lambda: mend_model(self.run, folder, self.stage.model, self.optimizers, state, self.observer.note))
        return state

    def _newest_checkpoint(self) -> Path | None:
        discard_drafts(self.run)
        folder = newest_intact_checkpoint(self.run, self.observer.note)
        step = -1 if folder is None else step_of(folder)
        for log in (self.run.metrics_file, self.run.timings_file, self.run.samples_file, self.run.bad_steps_file):
            cut_after(log, step, self.observer.note)
        return folder

    def take_step(self) -> None:
        """One optimizer step, logged."""
        began = time.perf_counter()
        schedule, state = self.config.schedule, self.state
        factor = learning_rate_factor(
            state.step, steps=state.steps, warmup=schedule.warmup_steps, decay_fraction=schedule.decay_fraction
        )
        self.optimizers.set_factor(factor)
        self.stage.model.train()
        sums = sum_over_processes(self._accumulate(), self.stage.model, self.group)
        accumulated = time.perf_counter()
        moving = self.optimizers.moving
        for part in moving:
            self.scaler.unscale_(part)
        norm = normalise(self.optimizers.parameters, sums.count, self.config.clip_norm)
        if self._may_move(sums.loss, norm):
            for part in moving:
                self.scaler.step(part)
            self.optimizers.average(state.step)
            self._apply_batch_statistics()
        else:
            forget_batch_statistics(self.stage.model)
        if moving:
            self.scaler.update()
        self.optimizers.zero_grad()
        state.step += 1
        self.seconds.data, self.seconds.optimizer = sums.data_seconds, time.perf_counter() - accumulated
        self._record(sums, norm, factor, time.perf_counter() - began)
        if state.skipped == self.patience:
            self._go_back()

    def _accumulate(self) -> GradientSums:
        """The gradient of this process's share; where memory runs out in spite of the plan, in smaller micro-batches."""
        before = generator_states(self.device)
        while True:
            try:
                return accumulate(
                    self.stage,
                    self.feed.step(self.state.step),
                    precision=self.precision,
                    scaler=self.scaler,
                    lanes=self.lanes,
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._halve_micro_batch(before)  # out here: the error's traceback holds the activations

    def _halve_micro_batch(self, before: dict[str, Tensor]) -> None:
        """Begin the step anew with half the micro-batch, as if nothing had happened."""
        step, size = self.state.step + 1, self.plan.micro_batch
        if size == 1 or not self.stage.divisible or self.setup.sliced:  # others wait for as many passes as were planned
            raise step_does_not_fit(size, where=f"{self.run.path}, step {step}")
        self.optimizers.zero_grad()
        forget_batch_statistics(self.stage.model)
        set_generator_states(before, self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.plan = self.plan._replace(micro_batch=-(-size // 2), peak_bytes=None)
        self.feed.close()
        self.feed = self._new_feed()
        self.observer.note(f"step {step}: out of memory; going on with micro-batches of {self.plan.micro_batch} instead of {size}")
        if self.group.is_main:
            self.run.update(memory=self.plan._asdict())

    def _apply_batch_statistics(self) -> None:
        modules = statistics_modules(self.stage.model)
        for module in modules:
            module.share_batch_statistics(self.group.concatenate)
            module.apply_batch_statistics()
        if modules:  # each process drew for itself what replaces dead codes
            self.group.align([*self.stage.model.buffers()])

    def _may_move(self, loss: float, norm: float) -> bool:
        """Whether the optimizer may move: it skips a step that is not finite, as fp16's are while the loss scale is found.

        Raises:
            Diverged: that happens time and again.
        """
        state = self.state
        if math.isfinite(loss) and math.isfinite(norm):
            if is_far_out(norm, state, self.config.clip_norm):
                self._log_bad_step(loss, norm, "clipped")
            state.skipped = 0
            state.norms = [*state.norms, norm][-RECENT:]
            return True
        state.skipped += 1
        self._log_bad_step(loss, norm, "skipped")
        reason = why_end(state, self.patience)
        if reason is None:
            return False
        raise self._divergence(
            f"loss {loss:.4g}, gradient norm {norm:.4g}, expected finite numbers; {reason}; "
            f"the weights were not touched, the examples are in {self.run.bad_steps_file.name}"
        )

    def _log_bad_step(self, loss: float, norm: float, action: str) -> None:
        """Write a step that is not as it should be, and its examples, to the run; say so, unless it is an overflow of fp16."""
        step = self.state.step + 1
        batches = self.setup.batches
        shares = self.group.gather(list(batches.names(batches.ids(self.state.step))))
        if self.group.is_main:
            examples = list(dict.fromkeys(name for share in shares for name in share))
            log_bad_step(self.run, step, action, loss=loss, grad_norm=norm, examples=examples)
        if action == "clipped" or not (self.scaler.is_enabled() and math.isfinite(loss)):
            what = f"step {step}: loss {loss:.4g}, gradient norm {norm:.4g}: {action}"
            self.observer.note(f"{what}; its examples are in {self.run.bad_steps_file.name}")

    @property
    def patience(self) -> int:
        """Steps in a row that are not finite before the training goes back to a checkpoint."""
        return PATIENCE_FP16 if self.scaler.is_enabled() else PATIENCE

    def _go_back(self) -> None:
        """Go on with weights and moments of the last good checkpoint, behind the steps that were not finite.

        Raises:
            Diverged: it is damaged.
        """
        state = self.state
        assert state.good_step is not None, "else the training has ended"
        folder = checkpoint_of(self.run, state.good_step)
        problem = self.group.first(lambda: damage(folder))
        if problem is not None:
            raise self._divergence(
                f"{state.skipped} steps in a row are not finite; checkpoint {folder.name} is damaged ({problem})"
            )
        saved = load_checkpoint(folder, self.stage.model, self.optimizers, self.device, rank=self.group.rank)
        if saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        state.returns += 1
        if self.group.is_main:
            log_bad_step(self.run, state.step, "returned", to_step=state.good_step)
        self.observer.note(
            f"{state.skipped} steps in a row were not finite: going on with the weights of step {state.good_step}, "
            f"and with step {state.step + 1} of the data"
        )

    def _divergence(self, problem: str) -> Diverged:
        config, step = self.config, self.state.step + 1
        return Diverged(
            f"step {step}: {problem}",
            where=f"{self.run.path}, step {step}",
            fix=f"lower the learning rates (--set train.lr={config.lr / 3:.2g} --set train.muon_lr={config.muon_lr / 3:.2g}), "
            "or use --set train.precision=fp32",
        )

    def _record(self, sums: GradientSums, norm: float, factor: float, seconds: float) -> None:
        """Report the step just taken to the logs and the observer."""
        state, config = self.state, self.config
        if state.skipped:
            metrics = {"skipped": 1.0, **({"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {})}
        else:
            metrics = {"loss": sums.loss, **sums.scalar_means(), "grad_norm": norm}
        metrics["lr"] = factor * config.lr
        timings = {
            "seconds": seconds,
            f"{self.stage.unit}_per_second": sums.work.units / seconds,
            "matmul_share": sums.work.flops / seconds / (self.matmul_rate * self.group.size),
            "data_wait_share": sums.data_seconds / seconds,
            "padding_share": 1 - sums.work.positions / sums.work.slots,
            "memory_bytes": peak_memory(self.device),
        }
        self.seconds.steps.append(seconds)
        self.shares = timings["matmul_share"], timings["padding_share"]
        if self.log is not None and (state.step % config.runtime.log_every == 0 or state.step == state.steps):
            self.log.metrics(state.step, metrics, split="train")
            self.log.timings(state.step, timings)
        self.observer.step(StepRecord(state.step, state.steps, metrics, timings))

    def evaluate(self) -> None:
        """Validate, log, and keep the model if it is the best so far; of averaged weights the average."""
        judge = self._evaluate if self.setup.sliced else partial(self.group.first, self._evaluate)  # of slices, all take part
        with self.optimizers.use_averages():
            self.report, self.state.best_step, self.state.best_value = judge()

    def _evaluate(self) -> tuple[Report, int | None, float | None]:
        began, state = time.perf_counter(), self.state
        self.stage.model.eval()
        with torch.no_grad(), self.precision.autocast(self.device):
            report = self.stage.validate()
        if not math.isfinite(report.value):
            raise self._divergence(f"{report.headline} is {report.value} on the validation split, expected a finite number")
        if self.log is not None:
            self.log.metrics(state.step, dict(report.metrics), split="val")
            keep_samples(self.run, state.step, report)
        sign = 1.0 if report.better == "lower" else -1.0
        is_best = state.best_value is None or sign * report.value < sign * state.best_value
        if is_best:
            state.best_step, state.best_value = state.step, report.value
            self._keep_model(report)
        self.observer.evaluated(state.step, report, is_best=is_best)
        self.seconds.evaluate = time.perf_counter() - began
        return report, state.best_step, state.best_value

    def _keep_model(self, report: Report) -> None:
        weights = plain_state_dict(self.stage.model)
        if not self.group.is_main:
            return
        keep_weights(weights, self.run.model)
        self.state.best_weights = read_manifest(self.run.model).get(WEIGHTS, {}).get("sha256")
        write_json(self.run.path / "best.json", {"step": self.state.step, report.headline: report.value})

    def save(self) -> None:
        """Write a checkpoint of the present step."""
        began = time.perf_counter()
        self.state.scaler = self.scaler.state_dict() or None
        if self.state.skipped == 0 and self.state.step % self.config.save_every == 0:  # what a signal asked for changes no result
            self.state.good_step = self.state.step
        generators = by_rank(self.group.gather(generator_states(self.device)))
        if self.log is not None:
            self.log.flush()  # a checkpoint counts on the lines before it
            with writing(self.run.path):
                self.state.metrics = describe_file(self.run.metrics_file)
        if self.group.is_main:
            save_checkpoint(self.run, self.stage.model, self.optimizers, self.state, generators, keep=self.config.runtime.keep)
        elif self.setup.sliced:  # the leading process asks for these
            plain_state_dict(self.stage.model)
            self.optimizers.state_tensors()
        self.seconds.save = time.perf_counter() - began

    def follow(self, plan: StepPlan) -> None:
        """Take the planned steps until the plan is made anew; evaluate no more often than their time allows."""
        self.step_plan = plan
        self.state.steps = max(plan.steps, self.state.step)
        spaced = plan_evaluations(
            self.config.eval_every, steps=plan.steps, step_seconds=plan.step_seconds, evaluation_seconds=plan.evaluation_seconds
        )
        if spaced.every != self.eval_every:
            often = "once, after the last step" if spaced.every >= plan.steps else f"every {spaced.every} steps"
            self.observer.note(f"evaluated {often}: an evaluation takes about {plan.evaluation_seconds:.2g} s")
        if not spaced.untrained and self.state.step == 0:
            self.observer.note(f"the untrained model is not evaluated: that would take about {plan.evaluation_seconds:.2g} s")
        self.evaluates_untrained, self.eval_every = spaced
        if self.group.is_main:
            self.run.update(eval_every=self.eval_every)  # a resume without a deadline evaluates after the same steps

    @property
    def calibration_steps(self) -> int:
        """Steps after which the real speed is known: fewer where few are planned."""
        return CALIBRATION_STEPS if self.state.steps is None else max(1, min(CALIBRATION_STEPS, self.state.steps // 2))

    def fix_steps(self, planner: StepPlanner) -> None:
        """Fix the total number of steps from the speed seen so far; a resume finds it in the checkpoint."""
        self.save()
        before, seconds = self.state.steps, self.seconds
        speed = Speed(self.state.step, seconds.step, seconds.evaluate or None, seconds.save)
        plan = self.group.first(lambda: planner.refix(speed))
        self.follow(plan)
        self.save()
        assert before is not None
        if abs(plan.steps - before) > NOTABLE_CHANGE * before:
            self.observer.note(
                f"{plan.steps} steps fit into the time given, instead of {before}: a step takes {seconds.step:.3g} s"
            )

    def reconsider_precision(self) -> None:
        """Time the number formats again if the first steps took far longer than was measured before; go on in the faster one.

        Once a run: whatever else the machine does when it is resumed, its format stays.
        """
        promised = self.precision.step_seconds
        if promised is None or self.precision_settled:
            return
        self.precision_settled = True
        if self.group.first(lambda: self.seconds.step <= CONTRADICTION * promised):
            if self.group.is_main:
                self.run.update(precision_settled=True)
            return
        self._change_precision(promised)

    def _change_precision(self, promised: float) -> None:
        """Go on in the format that is the faster one now; a step has not taken what was promised."""
        chosen = self.precision
        self.observer.note(f"a step takes {self.seconds.step:.3g} s, {promised:.3g} s were measured: timing number formats again")
        self.precision = self.setup.choose_precision()
        self.observer.note(
            f"{'staying with' if self.precision.name == chosen.name else 'now'} {self.precision.name}: {self.precision.reason}"
        )
        self.scaler = self.precision.scaler(self.device)
        self.optimizers.set_products(self.precision.optimizer_dtype)
        if self.precision.name != chosen.name and self.precision.step_seconds is not None:
            self.seconds.restart(self.precision.step_seconds)
        if self.group.is_main:
            self.run.update(precision=list(self.precision), precision_settled=True)
        self.save()  # a resume begins here, in the same format

    def explain_speed(self) -> None:
        """Say where the time goes if steps use less than half of what the machine can multiply."""
        rate, padding = self.shares
        left = ((self.state.steps or self.config.steps) - self.state.step) * self.seconds.step
        if rate >= SLOW or left < WORTH_A_LINE or self.device.type != "cpu":
            return
        data, optimizer = self.seconds.data / self.seconds.step, self.seconds.optimizer / self.seconds.step
        self.observer.note(
            f"{self.seconds.step:.3g} s a step, {rate:.0%} of this machine's fp32 rate: {data:.0%} waiting for data, "
            f"{optimizer:.0%} optimizer, {padding:.0%} of the positions padding; the rest is small products and moving memory"
        )

    def close(self) -> None:
        """Close the logs and end the workers and threads."""
        self.feed.close()
        self.lanes.close()
        if self.log is not None:
            self.log.close()

    def late(self) -> bool:
        """Whether one more step would leave no time for the last evaluation and save; never before the plan's least steps."""
        plan, seconds = self.step_plan, self.seconds
        if plan is None or self.state.step < plan.least_steps:
            return False
        ahead = seconds.slow_step + (seconds.evaluate or plan.evaluation_seconds) + seconds.save
        return self.group.first(lambda: time.monotonic() + ahead > plan.deadline)
