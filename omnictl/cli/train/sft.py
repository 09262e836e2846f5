"""`omnictl sft`: join what was trained, and train it to answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omnictl.cli.train.command import training_command

if TYPE_CHECKING:
    from omnictl.config import Config
    from omnictl.pipeline.context import TrainContext
    from omnictl.runs.run import Run


def _find_parents(
    root: Path, config: "Config", given: Mapping[str, str | None], init: "Run | None", context: "TrainContext"
) -> "dict[str, Run]":
    """The runs to join: those that are named, else what `--init` was made of, else the newest that fit."""
    from omnictl.pipeline.upstream_runs import choose_upstream
    from omnictl.stages.sft import SftConfig

    assert isinstance(config, SftConfig)
    by_stage = {"pretrain" if option == "thinker" else option: reference for option, reference in given.items()}
    return choose_upstream(root, config, by_stage, init, cache=context.cache, tell=context.tell)


sft = training_command(
    "sft",
    other={
        "data": Annotated[str | None, typer.Option(help="Your own dialogues; default: TinyWorld.", show_default=False)],
        "objective": Annotated[
            Literal["replies", "dpo"] | None,
            typer.Option(
                help="replies (the default): to answer; dpo: which of two replies is the better one, on top of --init RUN.",
                show_default=False,
            ),
        ],
    },
    parents={
        "thinker": "The Thinker; default: that of --init, else the newest that fits.",
        "asr": "The audio encoder; default: likewise.",
        "vision": "The vision encoder; default: likewise.",
        "talker": "The Talker to keep beside; default: likewise.",
    },
    find_parents=_find_parents,
)
