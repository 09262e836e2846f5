"""`omnictl STAGE`: train a stage, or go on with one of its runs."""

import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape

from omnictl.cli.console import Output, figures
from omnictl.cli.options import (
    DEFAULT_PRESET,
    ConfigOption,
    DeviceOption,
    InitOption,
    JsonOption,
    MaxMinutesOption,
    MaxStepsOption,
    PresetOption,
    QuietOption,
    ResumeOption,
    RunNameOption,
    RunsOption,
    SeedOption,
    SetOption,
    resolve_config,
)
from omnictl.errors import UsageError
from omnictl.runs.root import run_root
from omnictl.stages import STAGES

if TYPE_CHECKING:
    from omnictl.pipeline.train_stage import Prepared
    from omnictl.runs.run import Run
    from omnictl.trainer.loop import Outcome


class Choices(NamedTuple):
    """What decides a new run's config; none of it may be given with `--resume`."""

    preset: str | None
    config: Path | None
    set: list[str]
    data: str | None
    name: str | None
    init: str | None
    seed: int | None


def training_command(stage: str) -> Callable[..., int]:
    """The command function of a stage."""

    def command(
        preset: PresetOption = None,
        config: ConfigOption = None,
        set_: SetOption = None,
        data: Annotated[str | None, typer.Option(help="Your own data; default: TinyWorld.", show_default=False)] = None,
        runs: RunsOption = None,
        name: RunNameOption = None,
        resume: ResumeOption = None,
        init: InitOption = None,
        max_steps: MaxStepsOption = None,
        max_minutes: MaxMinutesOption = None,
        device: DeviceOption = "auto",
        seed: SeedOption = None,
        quiet: QuietOption = False,
        as_json: JsonOption = False,
    ) -> int:
        began = time.monotonic()
        from omnictl.cli.train.progress import train_context
        from omnictl.pipeline.train_stage import prepare_together, train_prepared

        output = Output(as_json=as_json, quiet=quiet)
        choices = Choices(preset, config, set_ or [], data, name, init, seed)
        deadline = None if max_minutes is None else began + 60 * max_minutes
        context = train_context(output, device)
        prepared = prepare_together(lambda: _begin(stage, choices, run_root(runs), resume, output, context.cache), context)
        outcome = train_prepared(prepared, context, deadline=deadline, max_steps=max_steps)
        conclude(stage, prepared.run, outcome, output, seconds=time.monotonic() - began)
        return outcome.exit_code

    return command


def _begin(stage: str, choices: Choices, root: Path, resume: str | None, output: Output, cache: Path) -> "Prepared":
    """A new run, or the one to go on with, and its stage."""
    from omnictl.pipeline.train_stage import prepare, reopen
    from omnictl.runs.run import find_run

    again = run_to_go_on_with(root, stage, resume, choices._asdict())
    if again is not None:
        return reopen(again, cache=cache)
    name = run_name(choices, choices.preset or DEFAULT_PRESET)
    config = resolve_config(stage, choices.preset, choices.config, [*choices.set, *settings(stage, choices)])
    parents = {} if choices.init is None else {"init": find_run(root, stage, choices.init)}
    output.say("reading the data …")
    output.tell_log()
    return prepare(root, stage, config, name, circumstances(), parents, cache=cache)


def settings(stage: str, choices: Choices) -> list[str]:
    """`--data` and `--seed` as settings of a stage's config."""
    from omnictl.pipeline.run_folder import absolute_source

    given = []
    if choices.data is not None:
        given.append(f"data.source={json.dumps(absolute_source(choices.data))}")
    if choices.seed is not None:
        given += [f"{key}.seed={choices.seed}" for key in _training_keys(stage)]
    return given


def _training_keys(stage: str) -> list[str]:
    """Where a stage's config, or that of its parts, says how to train."""
    if not STAGES[stage].recipe:
        return ["train"]
    from omnictl.stages.talker_recipe import PARTS

    return [f"{key}.train" for key in PARTS.values()]


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
    if choices.name is None:
        return re.sub(r"[^\w.+-]+", "-", choices.config.stem) if choices.config else default
    if not re.fullmatch(r"[\w.+-]{1,100}", choices.name):
        raise UsageError(
            f"the run's name {choices.name!r} does not suit a folder",
            where="--name",
            fix="use up to 100 letters, digits, '.', '_', '+' and '-'; --runs DIR says where runs go",
        )
    return choices.name


def circumstances() -> dict[str, object]:
    """Versions, machine and command line, for the record; under `torchrun` also its name for the job."""
    from omnictl.pipeline.run_folder import versions_and_machine
    from omnictl.trainer.distributed.process_group import job

    named = {"job": job()} if job() else {}
    return named | {"command": shlex.join(["omnictl", *sys.argv[1:]])} | versions_and_machine()


def conclude(stage: str, run: "Run", outcome: "Outcome", output: Output, *, seconds: float) -> None:
    """Say how it ended and what to do next."""
    record = run.record()
    report = outcome.report
    headline: dict[str, Any] = {"name": None, "value": None}
    if report is not None:
        headline = {"name": report.headline, "value": report.value}
    path = escape(shlex.quote(str(run.path)))
    if outcome.status == "interrupted":
        text = f"interrupted after step {outcome.steps}, saved; go on with\n  omnictl {stage} --resume {path}"
    elif report is None:  # nothing was left to do
        text = f"finished already, at step {outcome.steps}; train it longer with\n  omnictl {stage} --resume {path} --max-steps N"
    else:
        text = f"[bold green]finished[/bold green] {outcome.steps} steps in {seconds:.0f} s: {escape(figures(report.metrics))}\n"
        text += f"next\n  omnictl eval {stage} --run {path}\n" + next_commands(stage, path)
    output.result(
        {
            "stage": stage,
            "run": str(run.path),
            "status": outcome.status,
            "steps": outcome.steps,
            "seconds": round(seconds, 3),
            "headline": headline,
            "parents": record["parents"],
        },
        text,
    )


def next_commands(stage: str, path: str) -> str:
    """How to use what a stage has made; `path` is quoted for a shell."""
    use = {
        "pretrain": "chat",
        "asr": "transcribe FILE",
        "vision": "classify FILE",
        "talker": 'say "Hello." --out hello.wav',
        "sft": "chat --image FILE --audio FILE --speak reply.wav",
    }
    return f"  omnictl {use[stage]} --run {path}" if stage in use else ""
