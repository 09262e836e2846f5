"""Options that several commands share, and what their values mean."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.completion import complete_preset, complete_run
from omnictl.errors import UsageError
from omnictl.stages import STAGES

if TYPE_CHECKING:
    from omnictl.config import Config
    from omnictl.runs.run import Run

DEFAULT_PRESET = "tiny"
"""Taken where neither a preset nor a config file is given."""

LARGEST_SEED = 2**63 - 1


def check_finite(value: float | None) -> float | None:
    """The same number; what is none, or infinite, passes every bound.

    Raises:
        typer.BadParameter: it is none.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder of all runs; default: $OMNICTL_RUNS, else ./runs.", show_default=False)
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, the rest on standard error.")]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", help="A run's path or name; default: the newest finished one.", autocompletion=complete_run, show_default=False
    ),
]

# Of the commands that train.
PresetOption = Annotated[
    str | None, typer.Option(help="debug, tiny (the default) or small.", autocompletion=complete_preset, show_default=False)
]
ConfigOption = Annotated[Path | None, typer.Option(help="Config file: JSON, TOML or YAML.", show_default=False)]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")]
RunNameOption = Annotated[str | None, typer.Option(help="Name of the run; default: the preset's.", show_default=False)]
RunNamesOption = Annotated[str | None, typer.Option(help="Name of the runs; default: the preset's.", show_default=False)]
ResumeOption = Annotated[
    str | None,
    typer.Option(metavar="RUN|latest", help="Go on with a run.", autocompletion=complete_run, show_default=False),
]
InitOption = Annotated[
    str | None, typer.Option(metavar="RUN", help="Start from another run's weights; pretrain: or from a Hugging Face folder's.")
]
MaxStepsOption = Annotated[int | None, typer.Option(min=1, max=10**9, help="Train for so many steps in all.")]
MaxMinutesOption = Annotated[
    float | None, typer.Option(min=0.01, max=1_000_000, callback=check_finite, help="Time for the whole command.")
]
SeedOption = Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="Seed of weights and data order.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Only the result.")]


class SplitName(StrEnum):
    """Part of a data set."""

    train = "train"
    val = "val"
    test = "test"


def resolve_config(
    stage: str, preset: str | None, file: Path | None, overrides: list[str], objective: str | None = None
) -> "Config":
    """The config of a training command with these options.

    Args:
        stage: what is trained.
        preset: its name, if one was given.
        file: with a config.
        overrides: `KEY=VALUE`, the last word.
        objective: of a stage that has several; it has presets of its own.

    Raises:
        ConfigError: it does not validate.
        UsageError: there is no such stage.
    """
    from omnictl.config import choose_preset, resolve
    from omnictl.stages import command_presets, command_recipe

    check_stage(stage)
    if objective is not None:
        overrides = [f"objective={objective}", *overrides]
    name = preset or (None if file else DEFAULT_PRESET)
    base = None if name is None else choose_preset(command_presets(stage, objective), name)
    return resolve(command_recipe(stage).config_type, preset=base, file=file, overrides=overrides)


def check_tinyworld(data: str | None) -> None:
    """Refuse data that not every stage can take.

    Raises:
        UsageError: it is one's own, which is text, audio or images.
        DataError: a misspelled TinyWorld.
    """
    from omnictl.data.manifest.source import tinyworld_seed

    if data is not None and tinyworld_seed(data) is None:
        raise UsageError(
            f"{data} cannot be the data of all stages: each takes another kind",
            where="--data",
            fix="say whose data it is, --data asr=PATH; or name tinyworld or tinyworld:SEED",
        )


def check_stage(stage: str) -> None:
    """Refuse a stage that does not exist.

    Raises:
        UsageError: there is no such stage.
    """
    if stage not in STAGES:
        raise UsageError(
            f"there is no stage {stage!r}, expected one of: {', '.join(STAGES)}",
            where="STAGE",
            fix="name one of these",
        )


def choose_run(root: Path, stage: str, reference: str | None) -> "Run":
    """The run that `--run` names, else the newest finished one.

    Raises:
        RunError: there is none.
    """
    from omnictl.runs.run import find_run, newest_run

    return newest_run(root, stage, "finished") if reference is None else find_run(root, stage, reference)
