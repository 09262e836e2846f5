"""What the trainings of one command share, and the one place that trains with it."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import torch

from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.costs import UnitCost
from omnictl.pipeline.time_budget.unit_costs import UnitConfig, find_unit_costs
from omnictl.runs.run import Run
from omnictl.stages.protocol import TrainableStage
from omnictl.trainer.distributed.process_group import ALONE, ProcessGroup
from omnictl.trainer.log import Observer
from omnictl.trainer.loop import Outcome, train

Watch = Callable[[TrainableStage], AbstractContextManager[Observer]]


class TrainContext(NamedTuple):
    """What every training of a command is given."""

    device: torch.device
    watch: Watch
    """Gives the observer of a stage's training."""
    cache: Path
    tell: Callable[[str], None]
    """Takes a line for people."""
    group: ProcessGroup = ALONE
    """The processes that train together, all of which do the same."""

    def plan_time(self, units: Sequence[UnitConfig], *, deadline: float, max_steps: int | None, judged: bool) -> TimeBudget:
        """Find what units take here, plan the time until the deadline, and say what it will give.

        Args:
            units: to be trained, in order.
            deadline: of everything, on `time.monotonic`'s clock.
            max_steps: total steps of every unit instead of the configured ones.
            judged: whether all of it is judged at the end, as a pipeline is.

        Raises:
            DataError: data of one's own cannot be read.
            RunError, DiskFull: the cache cannot be written.
        """
        seconds = deadline - time.monotonic()

        def find() -> list[UnitCost]:
            return find_unit_costs(
                units, self.device, self.cache, seconds=seconds, max_steps=max_steps, limits_data=judged, tell=self.tell
            )

        costs = self.group.first(find)
        budget = TimeBudget(costs, deadline, time.monotonic, self.tell, judged=judged)
        budget.announce()
        return budget

    def train(self, stage: TrainableStage, run: Run, *, budget: TimeBudget | None, max_steps: int | None) -> Outcome:
        """Train a stage in its run, or go on with it, in the time that a budget gives it; raises as `trainer.loop.train`."""
        if budget is not None:
            if self.group.size == 1:
                stage.model.to(self.device)
            stage.batches()  # makes data and features that are missing: the steps are planned with the time left after that
        with self.watch(stage) as observer:
            return train(
                stage,
                stage.config.train,
                run,
                device=self.device,
                observer=observer,
                max_steps=max_steps,
                planner=None if budget is None else budget.planner(stage.name),
                group=self.group,
            )
