"""All stages learn in the number formats of GPUs as they do in fp32, and what is measured of them can be looked at."""

from pathlib import Path

import pytest
import torch
from learning import check_that_it_learns_alike
from regression import Recorder
from stage_factory import make_stage

from omnictl.cli.app import run as omnictl
from omnictl.runs.run import create_run
from omnictl.stages import STAGES
from omnictl.trainer.loop import train


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_learns_in_every_format(stage: str, tmp_path: Path, gpu: torch.device) -> None:
    formats = ["fp16", *(["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else [])]
    check_that_it_learns_alike(stage, tmp_path, gpu, *formats)


def test_auto_takes_the_format_that_the_gpu_has(tmp_path: Path, gpu: torch.device) -> None:
    made = make_stage("pretrain")
    run = create_run(tmp_path, "pretrain", "debug", {"parents": {}})
    made.save_description(run.model)
    train(made, made.config.train, run, device=gpu, observer=Recorder(), max_steps=2)
    assert run.record()["precision"][0] == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")


def test_the_speed_of_all_stages_is_shown(gpu: torch.device) -> None:
    assert omnictl(["bench", "--preset", "tiny", "--steps", "5", "--device", str(gpu)]) == 0
