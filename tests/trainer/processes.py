"""What the tests of several processes start in each of them, under `torchrun`: a task, and the folder that its results go to."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from regression import Recorder, Regression
from safetensors.torch import save_file
from stage_factory import make_stage
from torch import Tensor

from omnictl.models.thinker import Thinker
from omnictl.nn.transformer import rotary_table
from omnictl.processes import end
from omnictl.runs.files import write_json
from omnictl.runs.run import Run, create_run, run_of_job
from omnictl.stages import STAGES
from omnictl.trainer import trainer
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed.dtensor import is_slice
from omnictl.trainer.distributed.process_group import ProcessGroup, job, join_world
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import Share
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import train
from omnictl.trainer.optim.gradient import accumulate, normalise, sum_over_processes

CPU = torch.device("cpu")
FP32 = Precision("fp32", "")
STEPS = 12
SLICED = ("pretrain", "asr", "sft")
RATES = {"vocoder": 1e-5}
"""Logarithms of spectra near silence: at larger steps each one makes rounding errors a hundred times what they were."""


def alike(config: TrainConfig, lr: float = 1e-3) -> TrainConfig:
    """Settings under which nothing depends on how fast or how large a machine is."""
    changed = {"steps": STEPS, "eval_every": STEPS, "save_every": STEPS, "optimizer": "adamw", "precision": "fp32", "lr": lr}
    return config.model_copy(update=changed)


def double_stage(name: str, group: ProcessGroup) -> Any:
    """A stage of its preset `debug` in float64; its data is prepared by one process."""
    group.first(lambda: make_stage(name).batches() and None)
    stage = make_stage(name)
    stage.model.double()
    for module in stage.model.modules():
        if isinstance(module, Thinker):  # whose examples stand elsewhere in a row when a batch is split
            shape = module.config
            module.cos, module.sin = rotary_table(shape.context, shape.head_width, shape.rope_theta, torch.float64)
    return stage


def gradient(stage: Any, group: ProcessGroup) -> dict[str, Tensor]:
    """The clipped gradient of the first batch."""
    share = Share(stage.batches(), group, divisible=stage.divisible)
    halves = [ids for ids in (share.ids(0)[::2], share.ids(0)[1::2]) if ids]
    stage.model.train()
    sums = accumulate(stage, map(share.collate, halves), precision=FP32, scaler=FP32.scaler(CPU))
    whole = sum_over_processes(sums, stage.model, group)
    normalise([*stage.model.parameters()], whole.count, stage.config.train.clip_norm)
    named = {name: parameter.grad.clone() for name, parameter in stage.model.named_parameters() if parameter.grad is not None}
    stage.model.zero_grad(set_to_none=True)
    return {**named, "": torch.tensor(whole.loss, dtype=torch.float64)}


def every_stage(folder: Path, group: ProcessGroup) -> None:
    """Gradients of every stage, its weights after some steps, and which examples this process saw of them."""
    for name in STAGES:
        stage = double_stage(name, group)
        found = gradient(double_stage(name, group), group)
        made = group.first(lambda name=name, stage=stage: new_run(folder, name, stage).path)
        share = Share(stage.batches(), group, divisible=stage.divisible)
        seen = group.gather([list(share.ids(step)) for step in range(3)])
        train(stage, alike(stage.config.train, RATES.get(name, 1e-3)), Run(made), device=CPU, observer=Recorder(), group=group)
        if group.is_main:
            save_file(found, folder / f"{name}_gradient.safetensors")
            save_file(
                {key: value.contiguous().clone() for key, value in stage.model.state_dict().items()}, folder / f"{name}.safetensors"
            )
            write_json(folder / f"{name}_seen.json", seen)


def new_run(folder: Path, name: str, stage: Any) -> Run:
    run = create_run(folder / "runs", name, "debug", {"parents": {}, "job": job()})
    stage.save_description(run.model)
    return run


class Killing(Recorder):
    """Kills processes, its own the last, when step 11 has been logged, the first time that the job is started."""

    def __init__(self, flag: Path, victims: Sequence[int]) -> None:
        super().__init__()
        self.flag, self.victims = flag, victims

    def step(self, record: StepRecord) -> None:
        super().step(record)
        if self.victims and record.step == 11 and not self.flag.exists():
            self.flag.touch()
            for victim in self.victims:
                os.kill(victim, signal.SIGKILL)


def killed_once(folder: Path, group: ProcessGroup) -> None:
    """Train the job's run, its last process killed on the way; what starts again goes on with it."""
    go_on(folder, group, victims=[os.getpid()] if group.rank == group.size - 1 and group.size > 1 else [])


def host_left(folder: Path, group: ProcessGroup) -> None:
    """The same, where a host that is told so leaves, with its launcher."""
    go_on(folder, group, victims=[os.getppid(), os.getpid()] if "HOST_LEAVES" in os.environ else [])


def go_on(folder: Path, group: ProcessGroup, victims: Sequence[int]) -> None:
    """Train the job's run, begun or not."""
    stage = Regression()
    stage.model.double()
    stage.inputs, stage.targets = stage.inputs.double(), stage.targets.double()
    run = group.begin_first(
        lambda: run_of_job(folder / "runs", stage.name, job()) or new_run(folder, stage.name, stage), lambda run: run.path, Run
    )
    config = alike(TrainConfig(batch_size=8, micro_batch=3)).model_copy(update={"save_every": 4})
    observer = Killing(folder / "killed", victims)
    train(stage, config, run, device=CPU, observer=observer, group=group)
    if group.is_main:
        write_json(folder / f"begun_{group.size}.json", {"at": observer.begun_at})


def in_slices(folder: Path, group: ProcessGroup) -> None:
    """Train stages in slices of their weights, half of the way, then on from the checkpoint; one process keeps them whole."""
    for name in SLICED:
        stage = double_stage(name, group)
        config = alike(stage.config.train).model_copy(update={"sharding": "fsdp", "save_every": STEPS // 2})
        run = Run(group.first(lambda name=name, stage=stage: new_run(folder, name, stage).path))
        held = Recorder()
        train(stage, config, run, device=CPU, observer=held, group=group, max_steps=STEPS // 2)
        layers = sum(parameter.to_local().numel() for parameter in stage.model.parameters() if is_slice(parameter))
        train(double_stage(name, group), config, run, device=CPU, observer=Recorder(), group=group, max_steps=STEPS)
        if group.is_main:
            write_json(folder / f"{name}.json", {"run": str(run.path), "in_slices": layers})


TASKS = {task.__name__: task for task in (every_stage, killed_once, host_left, in_slices)}


def main(arguments: Sequence[str]) -> None:
    task, folder = arguments
    vars(trainer)["matmul_rate"] = lambda device: 1e11  # timing it takes longer than these runs
    TASKS[task](Path(folder), join_world())
    end(0)


if __name__ == "__main__":
    main(sys.argv[1:])
