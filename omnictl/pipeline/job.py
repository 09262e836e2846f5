"""A job is what a command trains: one stage, or several that belong together, one after the other.

Commands, the pipeline and the API know jobs by the protocol alone; which implementation a command has, its registry entry says.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from omnictl.config import Config, resolve
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.unit_costs import UnitConfig
from omnictl.pipeline.train_stage import StageJob
from omnictl.pipeline.train_talker import TalkerJob
from omnictl.runs.run import Run
from omnictl.stages import STAGES, command_recipe
from omnictl.trainer.hardware.device import keep_freed_memory
from omnictl.trainer.loop import Outcome


class Job(Protocol):
    """A run, and what trains it."""

    @property
    def run(self) -> Run:
        """The run of the command's stage."""
        ...

    @classmethod
    def create(
        cls,
        root: Path,
        stage: str,
        config: Any,
        name: str,
        record: Mapping[str, object],
        parents: Mapping[str, Run],
        *,
        cache: Path,
    ) -> Self:
        """A job in a new run; takes the arguments and raises the errors of `create_job`."""
        ...

    @classmethod
    def reopen(cls, run: Run, *, cache: Path) -> Self:
        """A job to resume; raises the errors of `reopen_job`."""
        ...

    @staticmethod
    def units_left(stage: str, config: Any, run: Run | None) -> list[UnitConfig]:
        """The units that are not fully trained yet, as `units_left` returns them."""
        ...

    @staticmethod
    def units_cut_short(run: Run) -> list[str]:
        """The units of a trained run that took fewer steps than planned, as `units_cut_short` returns them."""
        ...

    def train(self, context: TrainContext, *, budget: TimeBudget | None, max_steps: int | None) -> Outcome:
        """Train to the end, or go on; raises as `omnictl.trainer.loop.train`."""
        ...


def create_job(
    root: Path, stage: str, config: Config, name: str, record: Mapping[str, object], parents: Mapping[str, Run], *, cache: Path
) -> Job:
    """A job in a new run, whose folder appears only once the data and everything else that was given has been checked.

    Args:
        root: the folder of all runs.
        stage: the command.
        config: its resolved config.
        name: of the run.
        record: what else the run's record holds.
        parents: `init`, whose weights it starts from; and the runs that it is made from, by their stages.
        cache: folder of the cache.

    Raises:
        ConfigError: a parent does not suit the config.
        CheckpointError: a parent has no complete model, or one of another shape.
        DataError: the data cannot be read, or too much of it is broken.
        RunError: the root cannot be written.
        DiskFull: no space left.
    """
    return _job_type(stage).create(root, stage, config, name, record, parents, cache=cache)


def reopen_job(run: Run, *, cache: Path) -> Job:
    """The job of a run, to go on with.

    Raises:
        RunError: its config is damaged.
        CheckpointError: its model folder is.
        DataError: its data can no longer be read, or has changed since the run began.
    """
    return _job_type(run.stage).reopen(run, cache=cache)


def begin_together(begin: Callable[[], Job], context: TrainContext) -> Job:
    """The job that the leading process begins, or goes on with; the other processes open it.

    Raises:
        FailedElsewhere: the leading process failed; in itself, whatever `begin` raised.
    """
    return context.group.begin_first(
        begin, lambda job: job.run.path.absolute(), lambda path: reopen_job(Run(path), cache=context.cache)
    )


def train_job(
    job: Job, context: TrainContext, *, deadline: float | None, max_steps: int | None, budget: TimeBudget | None = None
) -> Outcome:
    """Train a job to its end, or go on with it; raises as `omnictl.trainer.loop.train`.

    Args:
        job: the run and what trains it.
        context: what it is trained with.
        deadline: on `time.monotonic`'s clock; its time is planned.
        max_steps: total steps instead of the configured ones.
        budget: a plan that was made for this and more, instead of a deadline.
    """
    keep_freed_memory()
    if budget is None and deadline is not None and context.group.first(job.run.record)["status"] != "finished":
        budget = _plan_time(job.run, context, deadline, max_steps)
    return job.train(context, budget=budget, max_steps=max_steps)


def units_left(stage: str, config: Config, run: Run | None) -> list[UnitConfig]:
    """The units of a job that are not trained to their end yet.

    Args:
        stage: the command.
        config: its config.
        run: its run; None if that has not begun.
    """
    return _job_type(stage).units_left(stage, config, run)


def units_cut_short(run: Run) -> list[str]:
    """The units of a trained run that took fewer steps than planned, and that going on with the run would leave as they are.

    A new job with this run as `init` trains them on first.
    """
    return _job_type(run.stage).units_cut_short(run)


def _job_type(stage: str) -> type[Job]:
    return TalkerJob if STAGES[stage].recipe else StageJob


def _plan_time(run: Run, context: TrainContext, deadline: float, max_steps: int | None) -> TimeBudget:
    """A plan for one command's run, noted in its record."""
    config = resolve(command_recipe(run.stage).config_type, preset=None, file=run.config_file)
    units = context.group.first(lambda: units_left(run.stage, config, run))
    budget = context.plan_time(units, deadline=deadline, max_steps=max_steps, judged=False)
    context.group.first(lambda: _note_plan(run, budget))
    return budget


def _note_plan(run: Run, budget: TimeBudget) -> None:
    with run.lock():  # another process may be training it
        run.update(plan=budget.plan.as_json())
