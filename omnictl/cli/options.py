"""Options that several commands share, and what their values mean."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder of all runs; default: $OMNICTL_RUNS, else ./runs.", show_default=False)
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, the rest on standard error.")]
RunOption = Annotated[
    str | None, typer.Option("--run", help="A run's path or name; default: the newest finished one.", show_default=False)
]


# Of the commands that train.
PresetOption = Annotated[str | None, typer.Option(help="debug, tiny (the default) or small.", show_default=False)]
ConfigOption = Annotated[Path | None, typer.Option(help="Config file: JSON, TOML or YAML.", show_default=False)]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")]
RunNameOption = Annotated[str | None, typer.Option(help="Name of the run; default: the preset's.", show_default=False)]
RunNamesOption = Annotated[str | None, typer.Option(help="Name of the runs; default: the preset's.", show_default=False)]
ResumeOption = Annotated[str | None, typer.Option(metavar="RUN|latest", help="Go on with a run.", show_default=False)]
InitOption = Annotated[str | None, typer.Option(metavar="RUN", help="Start from another run's weights.")]
MaxStepsOption = Annotated[int | None, typer.Option(min=1, help="Train for so many steps in all.")]
MaxMinutesOption = Annotated[float | None, typer.Option(min=0.01, help="Time for the whole command.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Seed of weights and data order.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Only the result.")]


class SplitName(StrEnum):
    """Part of a data set."""

    train = "train"
    val = "val"
    test = "test"
