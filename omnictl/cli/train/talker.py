"""`omnictl talker`: train a voice, which is a codec, an aligner and a Talker, one after the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.options import RunNamesOption
from omnictl.cli.train.command import parent_option, training_command

if TYPE_CHECKING:
    from omnictl.config import Config
    from omnictl.pipeline.context import TrainContext
    from omnictl.runs.run import Run


def _find_parents(
    root: Path,
    config: "Config",  # noqa: ARG001
    given: Mapping[str, str | None],
    init: "Run | None",  # noqa: ARG001  a Talker's job takes what it holds
    context: "TrainContext",  # noqa: ARG001
) -> "dict[str, Run]":
    """The parts that are not to be trained, and the Thinker that reads along."""
    return {part: _find_part(root, part, reference) for part, reference in given.items() if reference is not None}


def _find_part(root: Path, part: str, reference: str) -> "Run":
    """The run that `--codec`, `--aligner` or `--thinker` names; durations may come from a recogniser, too."""
    from omnictl.runs.run import find_run, runs_called

    if part == "aligner" and any(run.stage == "asr" for run in runs_called(root, part, reference)):
        return find_run(root, "asr", reference)
    return find_run(root, "pretrain" if part == "thinker" else part, reference)


talker = training_command(
    "talker",
    other={
        "set_": Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. talker.train.lr=1e-3; repeatable.")
        ],
        "name": RunNamesOption,
        "init": parent_option("Start from another Talker's weights, with its codec and aligner."),
        "max_steps": Annotated[int | None, typer.Option(min=1, help="Train every part for so many steps in all.")],
    },
    parents={
        "codec": "Take this codec instead of training one.",
        "aligner": "Take durations from this aligner, or from an `asr` run.",
        "thinker": "Let the Thinker of this `pretrain` run read along.",
    },
    find_parents=_find_parents,
)
