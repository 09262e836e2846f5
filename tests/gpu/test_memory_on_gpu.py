"""The plan, which is traced on a CPU, against what a GPU's allocator really hands out."""

import pytest
import torch
from planned_memory import measure
from stage_factory import make_stage

from omnictl.nn.recompute import Checkpointing
from omnictl.stages import STAGES
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.plan.free_memory import free_memory
from omnictl.trainer.plan.micro_batch import Steps, plan_memory


@pytest.mark.parametrize("part", [1, 2, 4])
@pytest.mark.parametrize("mode", ["off", "full"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_traced_peak_is_the_real_one(gpu: torch.device, stage: str, mode: Checkpointing, part: int) -> None:
    found = measure(stage, "tiny", mode, part, Precision("bf16", "this GPU has it"), gpu)
    assert found.planned == pytest.approx(found.real, rel=0.1)


def test_what_is_free_is_that_of_the_gpu(gpu: torch.device) -> None:
    before = free_memory(gpu)
    held = torch.empty(2**28, dtype=torch.uint8, device=gpu)
    assert before - free_memory(gpu) >= len(held)
    assert before <= torch.cuda.get_device_properties(gpu).total_memory


def test_a_plan_that_was_made_for_little_memory_goes_through(gpu: torch.device) -> None:
    stage = make_stage("pretrain")
    stage.model.to(gpu)
    batches, config = stage.batches(), stage.config.train.model_copy(update={"micro_batch": "auto"})
    plan = plan_memory(Steps(stage, batches, config, "adamw", Precision("fp32", "")), free=600 * 2**20, device=gpu)
    assert plan.peak_bytes is not None
    assert 0 < plan.peak_bytes <= 600 * 2**20 - 512 * 2**20
