"""One command's training, from a resolved config to a trained run; `omnictl STAGE` and `omnictl pipeline` share it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from omnictl.config import Config, resolve
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.run_folder import settle
from omnictl.pipeline.time_budget import TimeBudget
from omnictl.pipeline.train_talker import create_talker_run, is_passed, part_run, train_talker_run
from omnictl.pipeline.unit_costs import UnitConfig
from omnictl.runs.files import read_json
from omnictl.runs.run import Run
from omnictl.stages import STAGES, recipe_type, stage_type
from omnictl.stages.protocol import TrainableStage
from omnictl.trainer.hardware.device import keep_freed_memory
from omnictl.trainer.loop import Outcome

if TYPE_CHECKING:
    from omnictl.stages.talker_recipe import SpeakingConfig


class Prepared(NamedTuple):
    """A run and its stage, ready to be trained."""

    run: Run
    stage: TrainableStage | None  # None for the Talker's run: its parts are opened when their turn comes


def prepare(
    root: Path, stage: str, config: Config, name: str, record: Mapping[str, object], parents: Mapping[str, Run], *, cache: Path
) -> Prepared:
    """A new run; its folder appears only once the data and all else that was given has been found good.

    Args:
        root: the folder of all runs.
        stage: what to train.
        config: its resolved config.
        name: of the run.
        record: what else the run's record holds.
        parents: `init`, whose weights it starts from; and the runs that the stage joins, by their stages.
        cache: folder of the cache.

    Raises:
        ConfigError: a parent does not suit the config.
        CheckpointError: a parent has no whole model, or one of another shape.
        DataError: the data cannot be read, or too much of it is broken.
        RunError: the root cannot be written.
        DiskFull: no space left.
    """
    if STAGES[stage].recipe:
        folders = {parent: run.path for parent, run in parents.items()}
        return Prepared(create_talker_run(root, cast("SpeakingConfig", config), name, record, folders, cache=cache), None)
    upstream = {parent: run.model for parent, run in parents.items() if parent != "init"}
    joined = {"upstream": upstream} if upstream else {}  # only what joins others has such a parameter
    kind = cast("Any", stage_type(stage))
    made: TrainableStage = kind.create(config, cache=cache, init=parents.get("init"), **joined)
    named = {parent: str(run.path.absolute()) for parent, run in parents.items()}
    return Prepared(settle(root, made, name, {"parents": named, **record}), made)


def reopen(run: Run, *, cache: Path) -> Prepared:
    """A run to go on with.

    Raises:
        CheckpointError: it is damaged.
        DataError: its data can no longer be read.
    """
    if STAGES[run.stage].recipe:
        return Prepared(run, None)
    stage = stage_type(run.stage).open(run.model, data=None, cache=cache)
    parent = run.record()["parents"].get("init")
    if parent is not None and not any(run.checkpoints.glob("step-*")):  # a checkpoint would replace them
        stage.take_weights(Run(Path(parent)))
    return Prepared(run, stage)


def prepare_together(begin: Callable[[], Prepared], context: TrainContext) -> Prepared:
    """What the leading process begins, or goes on with; the others open it.

    Raises:
        FailedElsewhere: the leading process failed; in itself, whatever `begin` raised.
    """
    return context.group.led(
        begin, lambda prepared: prepared.run.path.absolute(), lambda path: reopen(Run(path), cache=context.cache)
    )


def train_prepared(
    prepared: Prepared, context: TrainContext, *, deadline: float | None, max_steps: int | None, budget: TimeBudget | None = None
) -> Outcome:
    """Train a run to its end, or go on with it; raises as `omnictl.trainer.loop.train`.

    Args:
        prepared: the run and its stage.
        context: what it is trained with.
        deadline: on `time.monotonic`'s clock; its time is planned.
        max_steps: total steps instead of the configured ones.
        budget: a plan that was made for this and more, instead of a deadline.
    """
    run, stage = prepared
    keep_freed_memory()
    if budget is None and deadline is not None and context.group.first(run.record)["status"] != "finished":
        budget = _plan_time(run, context, deadline, max_steps)
    if stage is None:
        return train_talker_run(run, context, budget=budget, max_steps=max_steps)
    return context.train(stage, run, budget=budget, max_steps=max_steps)


def _plan_time(run: Run, context: TrainContext, deadline: float, max_steps: int | None) -> TimeBudget:
    """A plan for one command's run, noted in its record."""
    config = resolve(recipe_type(run.stage).config_type, preset=None, file=run.config_file)
    units = context.group.first(lambda: units_left(run.stage, config, run))
    budget = context.plan_time(units, deadline=deadline, max_steps=max_steps, judged=False)
    if context.group.is_main:
        run.update(plan=budget.plan.as_json())
    return budget


def units_left(stage: str, config: Config, run: Run | None) -> list[UnitConfig]:
    """The units of a command that are not trained to their end yet.

    Args:
        stage: the command.
        config: its config.
        run: its run; None if that has not begun.
    """
    if not STAGES[stage].recipe:
        return [UnitConfig(stage, config, steps_taken(run))]
    speaking = cast("SpeakingConfig", config)
    left = [part for part in speaking.parts if run is None or not is_passed(run, part)]
    return [UnitConfig(part, speaking.part(part), steps_taken(None if run is None else part_run(run, part))) for part in left]


def steps_taken(run: Run | None) -> int:
    """Steps that a run goes on after: those of its newest checkpoint."""
    file = None if run is None else run.path / "latest.json"
    return int(read_json(file)["step"]) if file is not None and file.is_file() else 0
