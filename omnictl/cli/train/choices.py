"""What decides a new run, and which run a command goes on with."""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omnictl.errors import UsageError
from omnictl.stages import STAGES

if TYPE_CHECKING:
    from omnictl.runs.run import Run


class Choices(NamedTuple):
    """What decides a new run's config; none of it may be given with `--resume`."""

    preset: str | None
    config: Path | None
    set: list[str]
    data: str | None
    name: str | None
    init: str | None
    seed: int | None
    objective: str | None = None


def settings(stage: str, choices: Choices) -> list[str]:
    """`--data` and `--seed` as settings of a stage's config."""
    from omnictl.pipeline.run_folder import absolute_source

    given = []
    if choices.data is not None:
        given.append(f"data.source={json.dumps(absolute_source(choices.data))}")
    if choices.seed is not None:
        given += [f"{key}.seed={choices.seed}" for key in STAGES[stage].training_keys]
    return given


def run_to_go_on_with(root: Path, stage: str, resume: str | None, choices: Mapping[str, object]) -> "Run | None":
    """The run that `--resume` names; else that of the same `torchrun` job, which has started its processes again; else None.

    Args:
        root: the folder of all runs.
        stage: the command.
        resume: what `--resume` names.
        choices: options that decide a new run's config, and what was given for them.

    Raises:
        UsageError: some of them were given with `--resume`.
        RunError: there is no such run.
    """
    from omnictl.runs.run import find_run, run_of_job
    from omnictl.trainer.distributed.process_group import job

    if resume is None:
        return run_of_job(root, stage, job())
    refuse_with_resume(choices)
    return find_run(root, stage, resume)


def refuse_with_resume(
    choices: Mapping[str, object], otherwise: str = "start a new run from the weights of the old one with --init RUN"
) -> None:
    """Refuse what decides a new run's config.

    Args:
        choices: options and what was given for them.
        otherwise: what else can be done.

    Raises:
        UsageError: some of it was given.
    """
    given = [f"--{name}" for name, value in choices.items() if value not in (None, [])]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot go with --resume: a run keeps its config",
            where=given[0],
            fix=f"leave that out, or {otherwise}",
        )


def run_name(choices: Choices, default: str) -> str:
    """`--name`, else the config file's name, else the default.

    Raises:
        UsageError: the name given does not suit a folder.
    """
    from omnictl.runs.run import LONGEST_NAME, check_name

    if choices.name is None:
        return re.sub(r"[^\w.+-]+", "-", choices.config.stem)[:LONGEST_NAME] if choices.config else default
    check_name(choices.name)  # before the data is read, which takes time
    return choices.name


def circumstances() -> dict[str, object]:
    """Versions, machine and command line, for the record; under `torchrun` also its name for the job."""
    from omnictl.pipeline.run_folder import versions_and_machine
    from omnictl.trainer.distributed.process_group import job

    named = {"job": job()} if job() else {}
    return named | {"command": shlex.join(["omnictl", *sys.argv[1:]])} | versions_and_machine()
