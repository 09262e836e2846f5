"""Weights in slices are the same weights: two processes that hold half of each against one that holds all."""

import json
from pathlib import Path

import pytest
import torch
from processes import SLICED, STEPS, in_slices
from regression import CONFIG, Regression
from safetensors.torch import load_file
from stage_factory import make_stage
from test_process_group import by_one_and_two, steps_of

from omnictl.errors import ConfigError
from omnictl.runs.run import Run
from omnictl.stages import stage_type
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.distributed.sharding import check_shardable, share_in_layers
from omnictl.trainer.hardware.precision import Precision

FP32 = Precision("fp32", "")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one process makes, and what two make of slices."""
    return by_one_and_two(in_slices, tmp_path_factory)


def made(folder: Path, name: str) -> tuple[Run, int]:
    found = json.loads((folder / f"{name}.json").read_text())
    return Run(Path(found["run"])), found["in_slices"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICED)
def test_training_in_slices_is_training(name: str, folders: dict[int, Path]) -> None:
    (one, none), (two, sliced) = (made(folders[n], name) for n in (1, 2))
    assert none == 0
    assert len(steps_of(two.path)) == STEPS
    for mine, yours in zip(steps_of(one.path), steps_of(two.path), strict=True):
        assert yours == pytest.approx(mine, rel=1e-6)
    for place in ("model", f"checkpoints/step-{STEPS:08d}"):
        expected, found = (load_file(run.path / place / "model.safetensors") for run in (one, two))
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-8, atol=1e-8)
    stage = make_stage(name)
    learning = sum(p.numel() for p in stage.model.parameters() if p.requires_grad)
    assert sliced == pytest.approx(learning * share_in_layers(stage.model) / 2, rel=0.02)
    assert two.record()["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICED)
def test_a_run_in_slices_is_a_run_like_any_other(name: str, folders: dict[int, Path]) -> None:
    run, _ = made(folders[2], name)
    stage = stage_type(name).open(run.model, data=None, cache=folders[2] / "cache")
    assert stage.model.state_dict().keys() == load_file(run.model / "model.safetensors").keys()


@pytest.mark.parametrize(
    ("settings", "precision", "where"),
    [
        ({"optimizer": "muon"}, "fp32", "train.optimizer"),
        ({}, "fp16", "train.precision"),
        ({"average": 0.9}, "fp32", "train.average"),
        ({"batch_size": 7}, "fp32", "train.batch_size"),
    ],
)
def test_what_slices_cannot_do_is_refused(settings: dict[str, object], precision: str, where: str) -> None:
    stage = make_stage("pretrain")
    config = stage.config.train.model_copy(update={"sharding": "fsdp", **settings})
    with pytest.raises(ConfigError, match=r"train\.sharding=fsdp") as caught:
        check_shardable(stage, config, Precision(precision, ""), ProcessGroup(0, 2))
    assert caught.value.where == where


def test_a_model_without_layers_to_slice_is_refused() -> None:
    with pytest.raises(ConfigError, match="regression has no layers"):
        check_shardable(Regression(), CONFIG, FP32, ProcessGroup(0, 2))
