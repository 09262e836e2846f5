"""How a training ends that cannot go on: losses that are not finite, a busy run, a full disk, an interrupt."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import Poisoned, Recorder, Regression, changed, lines, new_run, trained, weights
from torch import nn

from omnictl.errors import DiskFull, Diverged, RunError
from omnictl.runs.run import Run
from omnictl.trainer import trainer
from omnictl.trainer.log import StepRecord
from omnictl.trainer.optim.bad_steps import PATIENCE_FP16
from omnictl.trainer.stage import LossSum


def infinite(loss: LossSum, _model: nn.Module) -> LossSum:
    return replace(loss, sum=loss.sum * math.inf)


def not_a_number(loss: LossSum, _model: nn.Module) -> LossSum:
    return replace(loss, sum=loss.sum * math.nan)


def only_the_gradient(loss: LossSum, model: nn.Module) -> LossSum:
    return replace(loss, sum=loss.sum + sum((p * 0).square().sum().sqrt() for p in model.parameters()))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (infinite, "step 8: loss inf, gradient norm nan"),
        (not_a_number, "step 8: loss nan, gradient norm nan"),
        (only_the_gradient, "gradient norm nan"),
    ],
)
def test_steps_that_are_never_finite_again_end_the_training_before_the_optimizer(
    spoil: Callable[[LossSum, nn.Module], LossSum], found: str, tmp_path: Path
) -> None:
    stage = Poisoned(spoil)
    run = new_run(tmp_path, stage)
    with pytest.raises(Diverged) as caught:
        trained(run, stage, changed(steps=20))
    assert found in caught.value.message
    assert caught.value.message.endswith(
        "expected finite numbers; 6 steps in a row, though the training went back to the checkpoint of step 2; "
        "the weights were not touched, the examples are in bad_steps.jsonl"
    )
    assert caught.value.where == f"{run.path}, step 8"
    assert caught.value.fix == (
        "lower the learning rates (--set train.lr=0.001 --set train.muon_lr=0.0067), or use --set train.precision=fp32"
    )
    assert caught.value.exit_code == 6
    assert all(torch.equal(one, two) for one, two in zip(weights(stage), stage.before, strict=True))
    record = run.record()
    assert record["status"] == "failed"
    assert record["error"].startswith("Diverged: step 8: loss ")
    assert len([line for line in lines(run.metrics_file, "train") if "loss" in line]) == 2


def test_fp16_skips_steps_that_overflow_until_the_scale_fits(tmp_path: Path) -> None:
    stage, observer = Regression(), Recorder()
    run = new_run(tmp_path, stage)
    before = weights(stage)
    touched: list[bool] = []
    original = observer.step

    def step(record: StepRecord) -> None:
        touched.append(not all(torch.equal(one, two) for one, two in zip(weights(stage), before, strict=True)))
        original(record)

    observer.step = step  # type: ignore[method-assign]
    trained(run, stage, changed(precision="fp16", steps=12), observer=observer)
    logged = lines(run.metrics_file, "train")
    skipped = [line for line in logged if "skipped" in line]
    assert 1 <= len(skipped) < 12
    assert skipped == logged[: len(skipped)]  # at the start, in a row
    assert [line["loss_scale"] for line in skipped] == [2.0**15 / 2**n for n in range(len(skipped))]
    assert touched == [False] * len(skipped) + [True] * (12 - len(skipped))
    assert set(skipped[0]) == {"step", "split", "skipped", "loss_scale", "lr"}
    assert logged[-1]["loss"] > 0
    assert run.record()["precision"][:2] == ["fp16", "as configured"]
    state = json.loads((run.checkpoints / "step-00000012" / "state.json").read_text())
    assert state["scaler"]["scale"] == skipped[-1]["loss_scale"]


def test_fp16_that_never_fits_diverges(tmp_path: Path) -> None:
    stage = Poisoned(infinite)
    run = new_run(tmp_path, stage)
    with pytest.raises(Diverged):
        trained(run, stage, changed(precision="fp16", steps=200, eval_every=200, save_every=200))
    assert sum("skipped" in line for line in lines(run.metrics_file, "train")) == PATIENCE_FP16 - 1


def test_a_busy_run_is_left_alone(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    with run.lock(), pytest.raises(RunError, match="another process is writing to"):
        trained(run, stage)
    assert run.record()["status"] == "running"
    assert not run.metrics_file.exists()


def test_a_full_disk_ends_the_run_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise DiskFull("no space left while writing x", fix="free some space")

    monkeypatch.setattr(trainer, "save_checkpoint", refuse)
    with pytest.raises(DiskFull) as caught:
        trained(run, stage)
    assert caught.value.exit_code == 7
    assert run.record()["error"] == "DiskFull: no space left while writing x"
    assert run.record()["status"] == "failed"


def test_when_even_the_failure_cannot_be_noted_the_error_is_still_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Poisoned(not_a_number)
    run = new_run(tmp_path, stage)
    update = Run.update

    def refuse(self: Run, **fields: object) -> None:
        if fields.get("status") == "failed":
            raise DiskFull("no space left", fix="free some space")
        update(self, **fields)

    monkeypatch.setattr(Run, "update", refuse)
    with pytest.raises(Diverged):
        trained(run, stage, changed(steps=20))


def test_a_keyboard_interrupt_is_noted(tmp_path: Path) -> None:
    def interrupt(_loss: LossSum, _model: nn.Module) -> LossSum:
        raise KeyboardInterrupt

    stage = Poisoned(interrupt)
    run = new_run(tmp_path, stage)
    with pytest.raises(KeyboardInterrupt):
        trained(run, stage)
    assert run.record()["status"] == "interrupted"
    with run.lock():
        pass
