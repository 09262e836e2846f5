"""`omnictl plan`: what a training will take, before it starts."""

import shlex
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_planned
from omnictl.cli.console import Output
from omnictl.cli.options import (
    DEFAULT_PRESET,
    ConfigOption,
    DeviceOption,
    JsonOption,
    PresetOption,
    QuietOption,
    SetOption,
    resolve_config,
)
from omnictl.cli.train.choices import Choices, settings
from omnictl.errors import OutOfMemory, UsageError
from omnictl.stages import command_stages, unit_configs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from omnictl.config import Config
    from omnictl.measure.plan import StagePlan, TargetGpu

ALL = "all"


def plan(
    stage: Annotated[str, typer.Argument(help="A stage, or all of them.", autocompletion=complete_planned, show_default=False)],
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    data: Annotated[str | None, typer.Option(help="Your own data; default: TinyWorld.", show_default=False)] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Plan for a GPU of this memory, e.g. 12GB; default: this machine.", show_default=False),
    ] = None,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Rate of that GPU in 16-bit matrix products, dense; default: an RTX 3060's.", show_default=False
        ),
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Say what the training of a stage will take: memory, steps, disk and time. Nothing is trained."""
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.measure.plan import make_plans
    from omnictl.trainer.hardware.device import choose_device

    output = Output(as_json=as_json, quiet=quiet)
    size = preset or DEFAULT_PRESET
    if stage == ALL and (config is not None or set_ or data is not None):
        raise UsageError("--config, --set and --data are of one stage", where="all", fix="name the stage: omnictl plan STAGE …")
    elsewhere = _elsewhere(memory, tflops)
    choices = Choices(preset, config, set_ or [], data, name=None, init=None, seed=None)
    configs: dict[str, Config] = {}
    for command in command_stages() if stage == ALL else (stage,):
        configs |= unit_configs(command, resolve_config(command, preset, config, [*choices.set, *settings(command, choices)]))
    plans = []
    for made in make_plans(configs, size, elsewhere, choose_device(device), cache=cache_dir()):
        plans.append(made)
        output.say(f"{made.stage}: {_bytes(made.largest_bytes)} with {made.micro_batch} at a time")
    lacking = [made.stage for made in plans if not made.fits]
    output.result(
        {
            "preset": size,
            "memory": elsewhere and elsewhere.memory,
            "tflops": elsewhere and elsewhere.tflops,
            "stages": [made._asdict() for made in plans],
        },
        *_tables(plans, elsewhere),
        _lacking_line(plans, lacking) if lacking else f"next\n  {escape(_training_command(stage, choices, device))}",
    )
    return OutOfMemory.exit_code if lacking else 0


def _elsewhere(memory: str | None, tflops: float | None) -> "TargetGpu | None":
    """The GPU that is meant.

    Raises:
        UsageError: its memory is not given, or is not a size.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from omnictl.measure.plan import GPU_TFLOPS, TargetGpu

    if memory is None:
        if tflops is not None:
            raise UsageError("--tflops is of a GPU elsewhere", where="--tflops", fix="say how much memory it has: --memory 12GB")
        return None
    try:
        size = TypeAdapter(ByteSize).validate_python(memory)
    except ValidationError as error:
        raise UsageError(f"{memory!r} is not a size", where="--memory", fix="write it like 12GB or 800MiB") from error
    return TargetGpu(int(size), tflops or GPU_TFLOPS)


def _tables(plans: "Sequence[StagePlan]", elsewhere: "TargetGpu | None") -> "list[Table | str]":
    from rich.table import Table

    from omnictl.cli.train.progress import clock
    from omnictl.measure.plan import ACHIEVED_SHARE, FP32_SHARE

    table = Table(title="what training takes")
    for heading in ("stage", "weights", "memory", "of", "batch", "recomputes", "format", "a step", "steps", "time", "disk", "data"):
        table.add_column(heading, justify="left" if heading in ("stage", "recomputes", "format") else "right")
    for made in plans:
        table.add_row(
            made.stage,
            f"{made.parameters / 1e6:.2f}M",
            _bytes(made.largest_bytes),
            _bytes(made.room_bytes),
            f"{made.accumulation} × {made.micro_batch}" if made.fits else "does not fit",
            "nothing" if made.checkpointing == "off" else made.checkpointing,
            f"{made.precision} {made.optimizer}",
            f"{made.units_per_step:,.0f} {made.unit}",
            f"{made.total_steps:,}",
            clock(made.hours * 3600),
            _bytes(made.disk_bytes),
            _bytes(made.data_bytes),
        )
    parts = [f"{made.stage}: {_parts_of(made)}" for made in plans] if len(plans) == 1 else []
    rate = (
        "time as measured here, evaluations not counted"
        if elsewhere is None
        else f"time on a GPU that does {elsewhere.tflops:g} TFLOP/s in 16-bit matrix products, {FP32_SHARE:.0%} of it in fp32, "
        f"{ACHIEVED_SHARE:.0%} of that kept (--tflops)"
    )
    return [table, *parts, rate]


def _parts_of(made: "StagePlan") -> str:
    parts = ", ".join(f"{name} {_bytes(size)}" for name, size in made.parts.items() if size)
    return f"a step {_bytes(made.peak_bytes)} ({parts}), an evaluation {_bytes(made.evaluation_bytes)}"


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _training_command(stage: str, choices: Choices, device: str) -> str:
    """The command that trains what was planned."""
    preset = choices.preset or (None if choices.config else DEFAULT_PRESET)
    config = None if choices.config is None else str(choices.config)
    given = {"--preset": preset, "--config": config, "--data": choices.data, "--device": None if device == "auto" else device}
    options = [*((name, value) for name, value in given.items() if value is not None), *(("--set", each) for each in choices.set)]
    return shlex.join(["omnictl", "pipeline" if stage == ALL else stage, *chain.from_iterable(options)])


def _lacking_line(plans: "Sequence[StagePlan]", lacking: "Sequence[str]") -> str:
    """What to do about stages that do not fit."""
    need = _bytes(max(made.largest_bytes for made in plans if not made.fits))
    return f"{', '.join(lacking)}: step and evaluation do not fit, they take {need}\nchoose a smaller model or shorter examples"
