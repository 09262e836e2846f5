"""The training of one stage, from a resolved config to a trained run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omnictl.config import Config, to_json
from omnictl.measure.changed_data import refuse_changed_data
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.run_folder import create_stage_run, steps_taken
from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.first_steps import shorten_first_steps
from omnictl.pipeline.time_budget.unit_costs import UnitConfig
from omnictl.runs.checksums import seal_anew
from omnictl.runs.files import write_text
from omnictl.runs.run import Run
from omnictl.stages import stage_type
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.loop import Outcome
from omnictl.trainer.plan.model_size_limit import limit_to_memory


@dataclass(frozen=True)
class StageJob:
    """A stage and its run, as a `Job`."""

    run: Run
    stage: TrainableStage

    @classmethod
    def create(
        cls,
        root: Path,
        stage: str,
        config: Config,
        name: str,
        record: Mapping[str, object],
        parents: Mapping[str, Run],
        *,
        cache: Path,
    ) -> "StageJob":
        """A stage in a new run."""
        upstream = {parent: run.model for parent, run in parents.items() if parent != "init"}
        with limit_to_memory():
            made = stage_type(stage).create(config, context=StageContext(cache, parents.get("init"), upstream))
        named = {parent: str(run.path.absolute()) for parent, run in parents.items()}
        return cls(create_stage_run(root, made, name, {"parents": named, **record}), made)

    @classmethod
    def reopen(cls, run: Run, *, cache: Path) -> "StageJob":
        """The stage of a run, to go on with.

        Raises:
            RunError: its config is not as it was written.
            DataError: its data cannot be read, or has changed since the run began.
        """
        run.check_config()
        stage = stage_type(run.stage).open(run.model, data=None, cache=cache)
        refuse_changed_data(run, stage)
        parent = run.record()["parents"].get("init")
        if parent is not None and not any(run.checkpoints.glob("step-*")):  # a checkpoint would replace them
            stage.take_weights(Run(Path(parent)))
        return cls(run, stage)

    @staticmethod
    def units_left(stage: str, config: Config, run: Run | None) -> list[UnitConfig]:
        """The stage itself."""
        return [UnitConfig(stage, config, steps_taken(run))]

    @staticmethod
    def units_cut_short(run: Run) -> list[str]:  # noqa: ARG004
        """None: a stage goes on with all of itself."""
        return []

    def train(self, context: TrainContext, *, budget: TimeBudget | None, max_steps: int | None) -> Outcome:
        """Train the stage, with fewer of its cheap first steps if there would not be time for enough others."""
        if budget is not None and not context.group.first(partial(steps_taken, self.run)):
            self._shorten_first_steps(context.group.first(lambda: budget.foresee([self.stage.name])), context.group)
        return context.train(self.stage, self.run, budget=budget, max_steps=max_steps)

    def _shorten_first_steps(self, planned: Mapping[str, int], group: ProcessGroup) -> None:
        config = self.stage.config
        shortened = shorten_first_steps(config, planned, self.stage.name)
        if shortened is config:
            return
        self.stage.config = shortened
        if group.is_main:
            if not self.run.whole_config_file.exists():
                write_text(self.run.whole_config_file, to_json(config))
            self.run.write_config(to_json(shortened))
            self.stage.save_description(self.run.model)
            seal_anew(self.run.model)
