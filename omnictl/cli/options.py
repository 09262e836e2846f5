"""Options that several commands share, and what their values mean."""

import os
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


class SplitName(StrEnum):
    """Part of a data set."""

    train = "train"
    val = "val"
    test = "test"


def run_root(runs: Path | None) -> Path:
    """The folder of all runs: `--runs`, else `$OMNICTL_RUNS`, else `./runs`."""
    return runs or Path(os.environ.get("OMNICTL_RUNS") or "runs")
