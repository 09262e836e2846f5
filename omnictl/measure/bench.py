"""How fast this machine trains each stage, writes and speaks: the same work everywhere, so that machines can be compared.

Each stage is measured in a process of its own, on a little of the built-in world, with weights that have learned nothing; what a
stage stands on is untrained, too. A step is taken apart into making the batch, forward, backward and optimizer.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from omnictl import __version__
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.token_decoder import Prompt, generate
from omnictl.generate.tts import say, time_speech
from omnictl.measure.untrained_stages import in_fresh_processes, untrained_stage
from omnictl.models.thinker import Thinker
from omnictl.nn.batch_statistics import apply_batch_statistics
from omnictl.nn.recompute import set_checkpointing
from omnictl.trainer.hardware.device import MemoryRise, keep_freed_memory, wait_for
from omnictl.trainer.hardware.precision import Precision, matmul_rate
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import Gradients, add_gradients, forward, gradients_of, normalise
from omnictl.trainer.optim.lanes import Lanes
from omnictl.trainer.optim.optimizers import Optimizers, choose_optimizer
from omnictl.trainer.plan.dry_run import precision_for
from omnictl.trainer.plan.free_memory import free_memory
from omnictl.trainer.plan.micro_batch import MemoryPlan, Steps, confirm_plan, plan_memory
from omnictl.trainer.stage import NO_WORK, Batches, Work

WARM_UP = 2
"""Steps that are not counted: they warm caches up."""

TRIAL_PART, TRIAL_PASSES = 8, 1
"""The trial of number formats, in a hurry: part of the examples that it takes, and what it amounts to in steps."""

PROMPT, WRITTEN = 32, 64
"""Tokens that the Thinker reads and then writes."""

SENTENCE = "The quick brown fox jumps over the lazy dog."


class Machine(NamedTuple):
    """The machine of a measurement."""

    device: str
    processor: str
    threads: int
    matmul_gflops: float  # of fp32
    omnictl: str
    torch: str


class TrainSpeed(NamedTuple):
    """What a training step of a stage takes here; times are medians, in seconds."""

    stage: str
    precision: str
    optimizer: str
    micro_batch: int
    accumulation: int
    checkpointing: str
    step_seconds: float
    data_seconds: float
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    unit: str
    units_per_second: float
    matmul_share: float  # of the fp32 rate
    peak_bytes: int  # beyond the loaded model
    planned_bytes: int | None
    """The same as planned; None if it could not be."""


class UseSpeed(NamedTuple):
    """How fast a model of this size is used here."""

    tokens_per_second: float  # one reply, one token after the other
    speech_real_time_factor: float  # seconds that a second of speech takes
    first_audio_seconds: float


def describe_machine(device: torch.device) -> Machine:
    """The machine that this runs on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    rate = matmul_rate(device) / 1e9
    return Machine(str(device), name, torch.get_num_threads(), rate, __version__, torch.__version__)


def processor_name() -> str:
    """The CPU's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def measure(preset: str, stages: Sequence[str], device: torch.device, *, steps: int, cache: Path) -> Iterator[TrainSpeed]:
    """The speeds of stages, as they are found."""
    return in_fresh_processes(_measure_alone, stages, preset, device, steps, cache)


def _measure_alone(name: str, preset: str, device: torch.device, steps: int, cache: Path, folder: Path) -> TrainSpeed:
    keep_freed_memory()
    stage = untrained_stage(name, preset, cache, folder)
    stage.model.to(device)
    return measure_steps(stage, device, steps)


class Step(NamedTuple):
    """What a step took, in seconds, and its work."""

    data: float
    forward: float
    backward: float
    optimizer: float
    work: Work

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.data + self.forward + self.backward + self.optimizer


class _FewExamples:
    """The first examples of each batch."""

    def __init__(self, batches: Batches, number: int) -> None:
        self._batches, self._number = batches, number

    def ids(self, step: int) -> Sequence[int]:
        return self._batches.ids(step)[: self._number]

    def collate(self, ids: Sequence[int]) -> Any:
        return self._batches.collate(ids)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        return self._batches.names(ids)

    @property
    def typical_step(self) -> int:
        return self._batches.typical_step

    def largest(self, size: int) -> Sequence[int]:
        return self._batches.largest(size)


def time_step(stage: Any, device: torch.device, *, steps: int, seconds: float, affordable_flops: float) -> float:
    """Seconds of a step, in a hurry: without a memory plan, and of a large batch only some examples are taken.

    Args:
        stage: a fresh one.
        device: where to compute.
        steps: that are timed, after one that warms up; the median counts.
        seconds: after which no further step is begun; then the first one may be all there is.
        affordable_flops: floating-point operations that may be spent on all of it.
    """
    began = time.monotonic()
    config, batches = stage.config.train, stage.batches()
    ids = batches.ids(batches.typical_step)
    flops = stage.work(batches.collate(ids)).flops
    number = max(1, min(len(ids), int(len(ids) * affordable_flops / (flops * (TRIAL_PASSES + 1 + steps)))))
    few = _FewExamples(batches, number)
    kind = choose_optimizer(config, stage.model, flops)
    precision = precision_for(stage, few, config, kind, device, examples=max(1, number // TRIAL_PART))
    optimizers = Optimizers(stage.model, config, kind, precision.optimizer_dtype)
    plan = MemoryPlan(number, "off", None, None)
    steps_taken: list[Step] = []
    while len(steps_taken) <= steps and (not steps_taken or time.monotonic() - began + steps_taken[-1].seconds < seconds):
        steps_taken.append(take_step(stage, few, few.typical_step + len(steps_taken), optimizers, plan, precision, device))
    timed = steps_taken[1:] or steps_taken
    passes = statistics.median(step.data + step.forward + step.backward for step in timed)
    return passes * len(ids) / number + statistics.median(step.optimizer for step in timed)


def measure_steps(stage: Any, device: torch.device, steps: int) -> TrainSpeed:
    """What a step takes as the training loop would take it here, without what it logs and judges in between."""
    config, batches = stage.config.train, stage.batches()
    ids = batches.ids(batches.typical_step)
    kind = choose_optimizer(config, stage.model, stage.work(batches.collate(ids)).flops)
    precision = precision_for(stage, batches, config, kind, device)
    optimizers = Optimizers(stage.model, config, kind, precision.optimizer_dtype)
    choices = Steps(stage, batches, config, kind, precision)
    plan = confirm_plan(plan_memory(choices, free=free_memory(device), device=device), choices, device)
    set_checkpointing(stage.model, plan.checkpointing)
    with MemoryRise(device) as rise:
        all_taken = [
            take_step(stage, batches, batches.typical_step + step, optimizers, plan, precision, device)
            for step in range(WARM_UP + steps)
        ]
    counted = all_taken[WARM_UP:]
    seconds, work = sum(step.seconds for step in counted), reduce(Work.plus, (step.work for step in counted))
    return TrainSpeed(
        stage.name,
        precision.name,
        kind,
        plan.micro_batch,
        -(-len(ids) // plan.micro_batch),
        plan.checkpointing,
        step_seconds=statistics.median(step.seconds for step in counted),
        data_seconds=statistics.median(step.data for step in counted),
        forward_seconds=statistics.median(step.forward for step in counted),
        backward_seconds=statistics.median(step.backward for step in counted),
        optimizer_seconds=statistics.median(step.optimizer for step in counted),
        unit=stage.unit,
        units_per_second=work.units / seconds,
        matmul_share=work.flops / seconds / matmul_rate(device),
        peak_bytes=rise.bytes,
        planned_bytes=plan.peak_bytes,
    )


def take_step(
    stage: Any, batches: Batches, step: int, optimizers: Optimizers, plan: MemoryPlan, precision: Precision, device: torch.device
) -> Step:
    """One step as the training loop would take it, taken apart."""
    stage.model.train()
    laps, lanes = _Laps(device), Lanes(plan.lanes)
    data, ahead, back, count, work = 0.0, 0.0, 0.0, 0, NO_WORK
    parts = micro_batches(batches.ids(step), plan.micro_batch)
    while some := [batches.collate(ids) for ids in islice(parts, lanes.number)]:
        data += laps.next()
        passes = lanes.map(partial(_pass, stage, precision, device), some)
        together = laps.next()
        for one in passes:
            share = together / sum(each.forward + each.backward for each in passes)
            ahead, back = ahead + share * one.forward, back + share * one.backward
            count, work = count + one.num_targets, work.plus(one.work)
            add_gradients(one.gradients)
        back += laps.next()
    lanes.close()
    normalise(optimizers.parameters, count, stage.config.train.clip_norm)
    for part in optimizers.parts:
        part.step()
    apply_batch_statistics(stage.model)
    optimizers.zero_grad()
    return Step(data, ahead, back, laps.next(), work)


class _Pass(NamedTuple):
    """One micro-batch, taken apart."""

    forward: float
    backward: float
    num_targets: int
    work: Work
    gradients: Gradients


def _pass(stage: Any, precision: Precision, device: torch.device, batch: Any) -> _Pass:
    laps = _Laps(device)
    loss = forward(stage, batch, precision, device)
    forward_seconds = laps.next()
    gradients = gradients_of(stage, loss.sum)
    return _Pass(forward_seconds, laps.next(), loss.count, stage.work(batch), gradients)


class _Laps:
    """A stop watch that waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, time.perf_counter()

    def next(self) -> float:
        """Seconds since the last call."""
        wait_for(self._device)
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        return elapsed


def measure_use(preset: str, device: torch.device, *, cache: Path) -> UseSpeed:
    """How fast an untrained Thinker writes and an untrained Talker speaks."""
    with tempfile.TemporaryDirectory() as folder:
        thinker = untrained_stage("pretrain", preset, cache, Path(folder)).model.to(device).eval()
        talker = untrained_stage("talker", preset, cache, Path(folder))
    talker.model.to(device)
    talker.codec.to(device)
    write(thinker)
    rate = WRITTEN / _seconds(lambda: write(thinker))
    voice, generator = talker.voice(), torch.Generator().manual_seed(0)
    for _ in range(2):  # the first time warms up
        said = time_speech(say(voice, [SENTENCE], generator))
    return UseSpeed(rate, said.seconds * voice.vocoder.sample_rate / len(said.audio), said.first_seconds)


@torch.no_grad()
def write(thinker: Thinker) -> list[int]:
    """`WRITTEN` tokens after `PROMPT` of them."""
    prompt = Prompt.of(thinker, range(PROMPT))
    generator = torch.Generator().manual_seed(0)
    return [*generate(thinker, prompt, max_tokens=WRITTEN, sampling=SamplingConfig(), stop=(), generator=generator)]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
