"""Whether every stage learns in a number format as it does in fp32, on whatever device."""

from pathlib import Path

import torch
from regression import Recorder
from stage_factory import make_stage

from omnictl.runs.run import create_run
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import train

STEPS = 60


class Losses(Recorder):
    """Notes the loss of every step that was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.skipped = 0

    @property
    def gain(self) -> float:
        """How far the loss went down."""
        return (sum(self.losses[:5]) - sum(self.losses[-5:])) / 5

    def step(self, record: StepRecord) -> None:
        super().step(record)
        if "loss" in record.metrics:
            self.losses.append(record.metrics["loss"])
        else:
            self.skipped += 1


def learned(stage: str, precision: str, root: Path, device: torch.device) -> Losses:
    """A short training of the preset `debug`."""
    made = make_stage(stage)
    settings = {"steps": STEPS, "eval_every": STEPS, "save_every": STEPS, "precision": precision}
    run = create_run(root / precision, stage, "debug", {"parents": {}})
    made.save_description(run.model)
    seen = Losses()
    outcome = train(made, made.config.train.model_copy(update=settings), run, device=device, observer=seen)
    assert outcome.status == "finished"
    return seen


def check_that_it_learns_alike(stage: str, root: Path, device: torch.device, *formats: str) -> None:
    """In fp16, the first eight steps or so are skipped while the loss scale is found."""
    exact = learned(stage, "fp32", root, device)
    assert exact.gain > 0
    for name in formats:
        found = learned(stage, name, root, device)
        assert found.skipped <= (STEPS / 4 if name == "fp16" else 0), name
        assert found.gain > (0.6 if name == "fp16" else 0.8) * exact.gain, name
