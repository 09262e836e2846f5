"""Watching a training run: a bar with ETA on a terminal, a line every ten seconds elsewhere."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from omnictl.cli.console import Output, figures
from omnictl.data.manifest.cache import cache_dir
from omnictl.pipeline.context import TrainContext
from omnictl.runs.run import Run
from omnictl.stages.protocol import TrainableStage
from omnictl.trainer.distributed.process_group import join_world
from omnictl.trainer.hardware.device import choose_device
from omnictl.trainer.log import Observer, StepRecord
from omnictl.trainer.stage import Report

SECONDS_BETWEEN_LINES = 10.0


def train_context(output: Output, device: str) -> TrainContext:
    """What trainings are given: the device that was asked for, someone who watches, the cache.

    Raises:
        UsageError: no such device here.
    """

    def watch(stage: TrainableStage) -> AbstractContextManager[Observer]:
        return TrainingProgress(output, stage.name, stage.unit)

    group = join_world()  # before the device is chosen: each process of a host has its own
    return TrainContext(choose_device(device), watch, cache_dir(), lambda line: output.say(escape(line)), group)


class TrainingProgress:
    """An observer of the training loop; use it as a context manager."""

    def __init__(self, output: Output, stage: str, unit: str) -> None:
        self.output, self.stage, self.unit = output, stage, unit
        self.bar: Progress | None = None
        self.began = time.monotonic()
        self.first_step = 0
        self.last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        """Show what is about to happen."""
        self.output.say(f"[bold]{self.stage}[/bold] in {escape(str(run.path))}")
        for name, fact in facts.items():
            self.output.say(f"  {name:<10} {escape(fact)}")
        if step:
            self.output.say(f"  going on after step {step}")
        self.began, self.first_step = time.monotonic(), step
        console = self.output.console
        if console.is_terminal and not self.output.quiet:
            columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"), _Eta()]
            self.bar = Progress(*columns, console=console)
            self.bar.add_task(self.stage, total=None, completed=step, numbers="")
            self.bar.start()

    def step(self, record: StepRecord) -> None:
        """Move the bar, or write a line now and then."""
        numbers = self._numbers(record)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], total=record.steps, completed=record.step, numbers=numbers)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.output.say(f"{numbers}  ETA {clock(self._seconds_left(record))}")

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        """Write the validation metrics above the bar."""
        text = f"step {step}: validation  {figures(report.metrics)}{'  (best so far)' if is_best else ''}"
        self._line(text)

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._line(text)

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(escape(text))
        else:
            self.output.say(escape(text))

    def _numbers(self, record: StepRecord) -> str:
        timings = record.timings
        skipped = "overflow, scaling down" if "loss_scale" in record.metrics else "not finite, skipped"
        loss = f"loss {record.metrics['loss']:.4f}" if "loss" in record.metrics else skipped
        return (
            f"step {record.step}/{record.steps or '?'}  {loss}  {timings[f'{self.unit}_per_second']:,.0f} {self.unit}/s  "
            f"{timings['matmul_share']:.0%} of fp32 peak  {timings['memory_bytes'] / 2**30:.1f} GiB"
        )

    def _seconds_left(self, record: StepRecord) -> float | None:
        if record.steps is None:
            return None
        done = record.step - self.first_step
        return (time.monotonic() - self.began) / done * (record.steps - record.step)


class _Eta(ProgressColumn):
    """Time left, from the speed so far."""

    def render(self, task: Task) -> Text:
        return Text(f"ETA {clock(task.time_remaining)}")


def clock(seconds: float | None) -> str:
    """Seconds as `1:02:03` or `2:03`, `?` if unknown."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
