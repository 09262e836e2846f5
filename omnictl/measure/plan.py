"""What a training will take, before it starts: memory, steps, disk and time of each stage, here or on a GPU that is elsewhere.

A fresh stage on a little of its data is traced as training traces it (`trainer/plan/micro_batch.py`); nothing of its size is
computed. Time comes from a few examples timed here, or from the rate that a GPU's maker states.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from omnictl.config import Config
from omnictl.errors import ConfigError
from omnictl.measure.disk_usage import data_bytes, size_of
from omnictl.measure.untrained_stages import in_fresh_processes, untrained_stage
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.recompute import Checkpointing, set_checkpointing
from omnictl.trainer.hardware.device import wait_for
from omnictl.trainer.hardware.precision import Precision, best_seconds
from omnictl.trainer.optim.optimizers import Optimizers, choose_optimizer
from omnictl.trainer.plan.dry_run import TRIAL_EXAMPLES, precision_for, try_out
from omnictl.trainer.plan.free_memory import budget, free_memory
from omnictl.trainer.plan.memory_trace import Peak, Untraceable
from omnictl.trainer.plan.micro_batch import Steps, fastest_that_fits
from omnictl.trainer.stage import NO_WORK, Batches, Work

PROCESS = 512 * 2**20
"""Bytes that a process takes before there is a model: a CUDA context, or on a CPU torch's code and the first heap."""

GPU_TFLOPS = 25.6
"""Of an RTX 3060 with 12 GB: dense 16-bit matrix products with sums in fp32, half of what NVIDIA states for sums in 16 bits."""

ACHIEVED_SHARE = 0.4
"""Share of such a rate that training keeps; larger models on larger GPUs report 0.35 to 0.55 (PaLM, section 4; Megatron-LM)."""

FP32_SHARE = 0.5
"""Of the 16-bit rate, what products in fp32 reach, as on NVIDIA's consumer cards since Ampere; data centre cards reach less."""

AFFORDABLE = 4e11
"""Floating-point operations of a trial: about two seconds of a laptop's CPU."""

SAMPLED_STEPS, SAMPLED_EXAMPLES = 8, 4
"""From which the work of a step is estimated."""


class TargetGpu(NamedTuple):
    """The GPU of another machine that a plan is made for."""

    memory: int
    """Bytes of it."""
    tflops: float = GPU_TFLOPS
    """Its rate in 16-bit matrix products with fp32 sums, dense."""

    def rate(self, precision: str) -> float:
        """Floating-point operations a second of matrix products in a number format."""
        return self.tflops * 1e12 * (FP32_SHARE if precision == "fp32" else 1)


class StagePlan(NamedTuple):
    """The memory, steps, time and disk space that training a stage takes."""

    stage: str
    fits: bool
    parameters: int
    peak_bytes: int
    """Of the model and the fullest moment of a step; of the smallest step if none fits."""
    parts: Mapping[str, int]
    """The same, by what it is for."""
    evaluation_bytes: int
    """Of the model and the fullest moment of its evaluation, generation included."""
    room_bytes: int
    """What there is for it, beside the process itself, workspaces and fragmentation."""
    micro_batch: int
    accumulation: int
    checkpointing: str
    precision: str
    optimizer: str
    unit: str
    units_per_step: float
    total_steps: int
    step_seconds: float
    hours: float
    disk_bytes: int
    """Of checkpoints and the model folder."""
    data_bytes: int
    """Of what the cache keeps of the data."""

    @property
    def largest_bytes(self) -> int:
        """Of a step or of an evaluation, whichever takes more."""
        return max(self.peak_bytes, self.evaluation_bytes)


def make_plans(
    configs: Mapping[str, Config], preset: str, target: TargetGpu | None, device: torch.device, *, cache: Path
) -> Iterator[StagePlan]:
    """The plans of stages, as they are made.

    Args:
        configs: by stage.
        preset: whose untrained models they stand on.
        target: where they are to be trained; None: here.
        device: of this machine.
        cache: folder of the cache.

    Raises:
        ConfigError: shapes depend on what a model computes, so that nothing can be traced.
        DataError: data of one's own cannot be read.
    """
    return in_fresh_processes(_plan_alone, configs, configs, preset, target, device, cache)


def _plan_alone(
    name: str,
    configs: Mapping[str, Config],
    preset: str,
    target: TargetGpu | None,
    device: torch.device,
    cache: Path,
    folder: Path,
) -> StagePlan:
    config: Any = configs[name]
    stage = untrained_stage(name, preset, cache, folder, config)
    return plan_stage(stage, config.data, target, device)


def plan_stage(stage: Any, data: Config, target: TargetGpu | None, device: torch.device) -> StagePlan:
    """The plan of one stage.

    Args:
        stage: a fresh one, perhaps on a little of its data.
        data: all of its data.
        target: where it is to be trained; None: here.
        device: of this machine.

    Raises:
        ConfigError: shapes depend on what the model computes.
    """
    config, batches = stage.config.train, stage.batches()
    example, share = _work_of_an_example(stage, batches), len(batches.ids(batches.typical_step))
    optimizer = choose_optimizer(config, stage.model, example.flops * share)
    if target is None:
        precision = precision_for(stage, batches, config, optimizer, device, examples=_affordable(example))
        room = budget(free_memory(device), device)
    else:
        precision = Precision("bf16" if config.precision == "auto" else config.precision, "planned")
        room = budget(target.memory - PROCESS, torch.device("cuda"))
    steps = Steps(stage, batches, config, optimizer, precision)
    try:
        step, evaluation = _largest_step(steps, room), steps.evaluation().total
    except Untraceable as error:
        raise ConfigError(
            f"the memory of {stage.name} cannot be traced: shapes depend on what the model computes",
            where="model",
            fix="start the training: its largest step is tried out before the first one",
        ) from error
    if target is None:
        set_checkpointing(stage.model, step.checkpointing)
        seconds = _measured_step(stage, batches, example, share, optimizer, precision, device)
    else:
        seconds = example.flops * share / (target.rate(precision.name) * ACHIEVED_SHARE)
    checkpoint = step.peak.model_bytes + step.peak.parts["optimizer"]
    return StagePlan(
        stage.name,
        fits=step.fits and evaluation <= room,
        parameters=sum(parameter.numel() for parameter in stage.model.parameters() if parameter.requires_grad),
        peak_bytes=step.peak.total,
        parts=step.peak.parts,
        evaluation_bytes=evaluation,
        room_bytes=room,
        micro_batch=step.micro_batch,
        accumulation=-(-share // step.micro_batch),
        checkpointing=step.checkpointing,
        precision=precision.name,
        optimizer=optimizer,
        unit=stage.unit,
        units_per_step=example.units * share,
        total_steps=config.steps,
        step_seconds=seconds,
        hours=seconds * config.steps / 3600,
        disk_bytes=checkpoint * (config.runtime.keep + 1) + step.peak.model_bytes + size_of(getattr(stage, "parts", {}).values()),
        data_bytes=data_bytes(data, _mel(stage), getattr(stage, "encoders", {})),
    )


class _Step(NamedTuple):
    micro_batch: int
    checkpointing: Checkpointing
    peak: Peak
    fits: bool


def _largest_step(steps: Steps, room: int) -> _Step:
    """The fastest step that fits; if none does, the smallest. Raises as `Steps.peak`."""
    peaks: dict[tuple[int, Checkpointing], Peak] = {}

    def peak(micro_batch: int, checkpointing: Checkpointing) -> int:
        traced = peaks[micro_batch, checkpointing] = steps.peak(micro_batch, checkpointing)
        return traced.total

    sizes, modes = steps.candidates()
    plan = fastest_that_fits(sizes, modes, room, peak)
    smallest = (sizes[-1], modes[-1])
    if plan is None and smallest not in peaks:
        peak(*smallest)
    chosen = smallest if plan is None else (plan.micro_batch, plan.checkpointing)
    return _Step(*chosen, peaks[chosen], plan is not None)


def _affordable(example: Work) -> int:
    """Examples of a trial."""
    return max(1, min(TRIAL_EXAMPLES, int(AFFORDABLE / example.flops)))


def _work_of_an_example(stage: Any, batches: Batches) -> Work:
    """On average; of the first steps some examples each, as they may be sorted by length."""
    work, number = NO_WORK, 0
    for step in range(SAMPLED_STEPS):
        ids = batches.ids(batches.typical_step + step)
        some = ids[:: -(-len(ids) // SAMPLED_EXAMPLES)]
        work, number = work.plus(stage.work(batches.collate(some))), number + len(some)
    return Work(work.units / number, work.flops / number, work.positions // number, work.slots // number)


def _measured_step(
    stage: Any, batches: Batches, example: Work, share: int, optimizer: str, precision: Precision, device: torch.device
) -> float:
    """Seconds of a step here: a few examples timed, and the optimizer."""
    stage.model.to(device).train()
    batch = batches.collate(batches.ids(batches.typical_step)[: _affordable(example)])
    optimizers = Optimizers(stage.model, stage.config.train, optimizer, precision.optimizer_dtype)
    for parameter in optimizers.parameters:
        parameter.grad = torch.zeros_like(parameter)

    def update() -> None:
        for part in optimizers.parts:
            part.step()
        wait_for(device)

    def pass_through() -> None:
        try_out(stage, batch, precision, device)
        wait_for(device)

    updating = best_seconds(update, rounds=2)
    passes: float = example.flops * share / stage.work(batch).flops
    return best_seconds(pass_through, rounds=3) * passes + updating


def _mel(stage: Any) -> MelConfig | None:
    """How the stage hears, if it does."""
    model = stage.codec.config if hasattr(stage, "codec") else getattr(stage.config, "model", None)
    return getattr(model, "mel", None)
