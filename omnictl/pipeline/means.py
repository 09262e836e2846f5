"""What the trainings of one command share, and the one place that trains with it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import torch

from omnictl.runs.run import Run
from omnictl.stages.protocol import TrainableStage
from omnictl.train.distributed import ALONE, World
from omnictl.train.log import Observer
from omnictl.train.loop import Outcome, train

Watch = Callable[[TrainableStage], AbstractContextManager[Observer]]


class Means(NamedTuple):
    """What every training of a command is given."""

    device: torch.device
    watch: Watch
    """Gives the observer of a stage's training."""
    cache: Path
    world: World = ALONE
    """The processes that train together, all of which do the same."""

    def train(self, stage: TrainableStage, run: Run, *, deadline: float | None, max_steps: int | None) -> Outcome:
        """Train a stage in its run, or go on with it; raises as `omnictl.train.loop.train`."""
        with self.watch(stage) as observer:
            return train(
                stage,
                stage.config.train,
                run,
                device=self.device,
                observer=observer,
                deadline=deadline,
                max_steps=max_steps,
                world=self.world,
            )
