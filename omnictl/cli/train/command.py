"""The command that trains a stage, or goes on with one of its runs.

All stages share it. `sft.py` and `talker.py` declare what theirs have beside it: other words for some options, and options that
name the runs they are made from.
"""

import inspect
import shlex
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
from omnictl.cli.setup.doctor import examine_machine, is_first_training
from omnictl.cli.train.choices import Choices, circumstances, run_name, run_to_go_on_with, settings
from omnictl.cli.train.next_steps import longer_command, next_commands, warn_of_units_cut_short
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.config import Config
    from omnictl.pipeline.context import TrainContext
    from omnictl.pipeline.job import Job
    from omnictl.runs.run import Run
    from omnictl.trainer.loop import Outcome


class TrainOptions(NamedTuple):
    """The options of every command that trains, in the order of `--help`."""

    preset: PresetOption = None
    config: ConfigOption = None
    set_: SetOption = None
    data: Annotated[str | None, typer.Option(help="Your own data; default: TinyWorld.", show_default=False)] = None
    runs: RunsOption = None
    name: RunNameOption = None
    resume: ResumeOption = None
    init: InitOption = None
    max_steps: MaxStepsOption = None
    max_minutes: MaxMinutesOption = None
    device: DeviceOption = "auto"
    seed: SeedOption = None
    objective: Any = None
    """Of stages alone that declare it."""
    quiet: QuietOption = False
    as_json: JsonOption = False

    @property
    def choices(self) -> Choices:
        """Those that decide a new run's config."""
        return Choices(self.preset, self.config, self.set_ or [], self.data, self.name, self.init, self.seed, self.objective)


FindParents = Callable[[Path, "Config", Mapping[str, str | None], "Run | None", "TrainContext"], "dict[str, Run]"]
"""Finds the runs that a new one is made from: of the root, the config, the options that name them, the run of `--init`, and the
context."""


def no_parents(
    root: Path,  # noqa: ARG001
    config: "Config",  # noqa: ARG001
    given: Mapping[str, str | None],  # noqa: ARG001
    init: "Run | None",  # noqa: ARG001
    context: "TrainContext",  # noqa: ARG001
) -> "dict[str, Run]":
    """Of a stage that is made from nothing but data."""
    return {}


def training_command(
    stage: str,
    *,
    other: Mapping[str, Any] | None = None,
    parents: Mapping[str, str] | None = None,
    find_parents: FindParents = no_parents,
) -> Callable[..., int]:
    """The command function of a stage, with the signature that typer reads.

    Args:
        stage: what it trains.
        other: by name of an option, its declaration where it differs from that in `TrainOptions`.
        parents: the options that name runs it is made from, each with its help; they stand behind `--init`.
        find_parents: finds these runs.
    """
    named = parents or {}

    def command(**values: Any) -> int:
        given = {name: values.pop(name) for name in named}
        return train(stage, TrainOptions(**values), given, find_parents)

    command.__signature__ = _signature(other or {}, named)  # type: ignore[attr-defined]
    return command


def _signature(other: Mapping[str, Any], parents: Mapping[str, str]) -> inspect.Signature:
    """The parameters of `TrainOptions` and those that name parents."""
    parameters: list[inspect.Parameter] = []
    for name, declaration in TrainOptions.__annotations__.items():
        if declaration is Any and name not in other:
            continue
        parameters.append(_parameter(name, other.get(name, declaration), TrainOptions._field_defaults[name]))
        if name == "init":
            parameters += [_parameter(parent, parent_option(help_), None) for parent, help_ in parents.items()]
    return inspect.Signature(parameters, return_annotation=int)


def _parameter(name: str, declaration: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=declaration)


def parent_option(help_: str) -> Any:
    """The declaration of an option that names a run."""
    return Annotated[str | None, typer.Option(metavar="RUN", help=help_)]


def train(stage: str, options: TrainOptions, given: Mapping[str, str | None], find_parents: FindParents) -> int:
    """Train a stage in a new run, or go on with one; returns the exit code.

    Args:
        stage: what is trained.
        options: those of every such command.
        given: options that name runs it is made from.
        find_parents: finds these runs.
    """
    began = time.monotonic()
    from omnictl.cli.train.progress import train_context
    from omnictl.pipeline.job import begin_together, reopen_job, train_job

    output, root = Output(as_json=options.as_json, quiet=options.quiet), run_root(options.runs)
    output.show_log()
    deadline = None if options.max_minutes is None else began + 60 * options.max_minutes
    context = train_context(output, options.device)
    first = is_first_training(root)

    def begin() -> "Job":
        run = run_to_go_on_with(root, stage, options.resume, {**options.choices._asdict(), **given})
        if run is not None:
            warning = warn_of_units_cut_short(run)
            if warning is not None:
                output.say(escape(warning))
            return reopen_job(run, cache=context.cache)
        return _create(
            stage, options.choices, root, context, lambda config, init: find_parents(root, config, given, init, context), output
        )

    job = begin_together(begin, context)
    if first:
        examine_machine(root, context.device, output)
    outcome = train_job(job, context, deadline=deadline, max_steps=options.max_steps)
    conclude(stage, job.run, outcome, output, seconds=time.monotonic() - began)
    return outcome.exit_code


def _create(
    stage: str,
    choices: Choices,
    root: Path,
    context: "TrainContext",
    find_parents: "Callable[[Config, Run | None], dict[str, Run]]",
    output: Output,
) -> "Job":
    """A new run of what was chosen; its folder appears only once all that the user gave has been found good."""
    from omnictl.pipeline.initial_weights import find_initial_weights
    from omnictl.pipeline.job import create_job

    def tell(line: str) -> None:
        output.say(escape(line))

    name = run_name(choices, choices.preset or DEFAULT_PRESET)
    init = None if choices.init is None else find_initial_weights(root, stage, choices.init, tell)
    needed = [] if init is None else init.settings
    overrides = [*needed, *choices.set, *settings(stage, choices)]
    config = resolve_config(stage, choices.preset, choices.config, overrides, choices.objective)
    parents = find_parents(config, None if init is None else init.run)
    if init is not None:
        parents["init"] = init.run
    output.say("reading the data …")
    return create_job(root, stage, config, name, circumstances(), parents, cache=context.cache)


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
        text = f"finished already, at step {outcome.steps}; train it longer with\n  {escape(longer_command(run, 'N'))}"
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
