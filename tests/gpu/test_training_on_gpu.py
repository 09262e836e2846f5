"""All stages learn in the number formats of GPUs as they do in fp32, and what is measured of them can be looked at."""

from pathlib import Path

import pytest
import torch
from regression import Recorder
from stage_factory import make_stage

from omnictl.cli.app import run as omnictl
from omnictl.runs.run import create_run
from omnictl.stages import STAGES
from omnictl.train.log import StepRecord
from omnictl.train.loop import train

STEPS = 60


class Losses(Recorder):
    """Notes the loss of every step that was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.skipped = 0

    def step(self, record: StepRecord) -> None:
        super().step(record)
        if "loss" in record.metrics:
            self.losses.append(record.metrics["loss"])
        else:
            self.skipped += 1


def learned(stage: str, precision: str, root: Path, gpu: torch.device) -> Losses:
    """The losses of a short training of the preset `debug`."""
    made = make_stage(stage)
    settings = {"steps": STEPS, "eval_every": STEPS, "save_every": STEPS, "precision": precision}
    run = create_run(root / precision, stage, "debug", {"parents": {}})
    made.save_description(run.model)
    seen = Losses()
    outcome = train(made, made.config.train.model_copy(update=settings), run, device=gpu, observer=seen)
    assert outcome.status == "finished"
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_learns_in_every_format(stage: str, tmp_path: Path, gpu: torch.device) -> None:
    formats = ["fp16", *(["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else [])]
    exact = learned(stage, "fp32", tmp_path, gpu)
    gain = mean(exact.losses[:5]) - mean(exact.losses[-5:])
    assert gain > 0
    for name in formats:
        found = learned(stage, name, tmp_path, gpu)
        assert found.skipped < STEPS / 4, name
        assert mean(found.losses[:5]) - mean(found.losses[-5:]) > 0.8 * gain, name


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_auto_takes_the_format_that_the_gpu_has(tmp_path: Path, gpu: torch.device) -> None:
    made = make_stage("pretrain")
    run = create_run(tmp_path, "pretrain", "debug", {"parents": {}})
    made.save_description(run.model)
    train(made, made.config.train, run, device=gpu, observer=Recorder(), max_steps=2)
    assert run.record()["precision"][0] == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")


def test_the_speed_of_all_stages_is_shown(gpu: torch.device) -> None:
    assert omnictl(["bench", "--preset", "tiny", "--steps", "5", "--device", str(gpu)]) == 0
