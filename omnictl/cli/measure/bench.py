"""`omnictl bench`: how fast this machine trains, writes and speaks."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.console import Output
from omnictl.cli.options import DeviceOption, JsonOption, QuietOption
from omnictl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from omnictl.measure.bench import Machine, TrainSpeed, UseSpeed


def bench(
    preset: Annotated[str, typer.Option(help="Size of the models: debug, tiny or small.")] = "tiny",
    only: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="This stage alone; repeatable.", show_default=False)
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each stage.")] = 10,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast this machine trains each stage, writes text and speaks; a minute or two at the size tiny."""
    began = time.monotonic()
    from omnictl.config import choose_preset
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.measure.bench import describe_machine, measure, measure_use
    from omnictl.measure.untrained_stages import WHOLE_MODEL
    from omnictl.stages import stage_recipe
    from omnictl.trainer.hardware.device import choose_device

    output = Output(as_json=as_json, quiet=quiet)
    for stage in only or []:
        _check_stage(stage, WHOLE_MODEL)
    for stage in only or WHOLE_MODEL:
        choose_preset(stage_recipe(stage).presets, preset)
    chosen, speeds = choose_device(device), []
    machine = describe_machine(chosen)
    output.say(f"{machine.processor}, {machine.threads} threads: {machine.matmul_gflops:,.0f} GFLOP/s in fp32 matrix products")
    for speed in measure(preset, only or WHOLE_MODEL, chosen, steps=steps, cache=cache_dir()):
        speeds.append(speed)
        output.say(f"{speed.stage}: {speed.step_seconds:.3f} s a step, {speed.units_per_second:,.0f} {speed.unit}/s")
    using = None if only else measure_use(preset, chosen, cache=cache_dir())
    output.result(
        {
            "preset": preset,
            "machine": machine._asdict(),
            "stages": [speed._asdict() for speed in speeds],
            "use": using and using._asdict(),
            "seconds": round(time.monotonic() - began, 1),
        },
        *_tables(machine, speeds, using),
    )


def _check_stage(given: str, known: "Sequence[str]") -> None:
    if given not in known:
        raise UsageError(f"{given!r} is not one of {', '.join(known)}", where="--only", fix="name one of these")


def _tables(machine: "Machine", speeds: "Sequence[TrainSpeed]", using: "UseSpeed | None") -> "list[Table | str]":
    from rich.table import Table

    table = Table(title=f"training on {machine.device}: {machine.processor}")
    for heading in (
        "stage",
        "format",
        "batch",
        "s a step",
        "data",
        "forward",
        "backward",
        "optimizer",
        "speed",
        "of fp32",
        "memory",
        "planned",
    ):
        table.add_column(heading, justify="left" if heading in ("stage", "format") else "right")
    for speed in speeds:
        shares = (speed.data_seconds, speed.forward_seconds, speed.backward_seconds, speed.optimizer_seconds)
        table.add_row(
            speed.stage,
            f"{speed.precision} {speed.optimizer}",
            f"{speed.accumulation} × {speed.micro_batch}",
            f"{speed.step_seconds:.3f}",
            *(f"{seconds / sum(shares):.0%}" for seconds in shares),
            f"{speed.units_per_second:,.0f} {speed.unit}/s",
            f"{speed.matmul_share:.0%}",
            f"{speed.peak_bytes / 2**20:,.0f} MiB",
            "–" if speed.planned_bytes is None else f"{speed.planned_bytes / 2**20:,.0f} MiB",
        )
    if using is None:
        return [table]
    return [
        table,
        f"writes {using.tokens_per_second:,.0f} tokens/s; speaks a second in {using.speech_real_time_factor:.2f} s, "
        f"the first audio after {using.first_audio_seconds * 1000:.0f} ms",
    ]
