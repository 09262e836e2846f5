"""`omnictl pipeline`: every stage from one command, and the numbers of all of them."""

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_run
from omnictl.cli.console import Output
from omnictl.cli.measure.results_table import overview
from omnictl.cli.options import (
    DEFAULT_PRESET,
    DeviceOption,
    JsonOption,
    MaxMinutesOption,
    PresetOption,
    QuietOption,
    RunNamesOption,
    RunsOption,
    SeedOption,
    check_tinyworld,
)
from omnictl.cli.setup.doctor import examine_machine, is_first_training
from omnictl.cli.train.choices import Choices, circumstances, refuse_with_resume, run_name, settings
from omnictl.cli.train.next_steps import training_lines, use_lines, words
from omnictl.errors import Diverged, OmniError, UsageError
from omnictl.processes import number_of_processes
from omnictl.runs.root import run_root
from omnictl.stages import command_stages

if TYPE_CHECKING:
    from omnictl.pipeline.context import TrainContext
    from omnictl.pipeline.evaluate import Tell
    from omnictl.pipeline.pipeline import PipelineResult
    from omnictl.runs.run import Run


def pipeline(
    preset: PresetOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.KEY=VALUE", help="One setting, e.g. asr.train.steps=100; repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Project file: data, preset and settings of each stage.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=PATH",
            help="Data of a stage; repeatable. Or another draw of TinyWorld, tinyworld:SEED.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Train only this stage; repeatable. What it needs is taken from the newest runs."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help="Train from this stage on; the others are taken from the newest runs."),
    ] = None,
    runs: RunsOption = None,
    name: RunNamesOption = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|latest", help="Go on with a pipeline.", autocompletion=complete_run, show_default=False),
    ] = None,
    max_minutes: MaxMinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train every stage, one after the other, then judge them all and write a page about them."""
    began = time.monotonic()
    from omnictl.cli.train.progress import train_context
    from omnictl.runs.run import find_run

    output = Output(as_json=as_json, quiet=quiet)
    output.show_log()
    world, sources = _split_data(data or [])
    choices = Choices(preset, config, set_ or [], world, name, None, seed)
    deadline = None if max_minutes is None else began + 60 * max_minutes
    if number_of_processes() > 1:
        fix = "start its stages one by one: torchrun --nproc-per-node N -m omnictl pretrain …, and so on"
        raise UsageError("a pipeline runs in one process, not in those of torchrun", where="torchrun", fix=fix)
    context = train_context(output, device)
    first = is_first_training(run_root(runs))

    def tell(text: str) -> None:
        output.say(escape(text))

    if resume is None:
        run = _create(choices, sources, only or [], from_, run_root(runs), tell)
    else:
        refuse_with_resume(
            {**choices._asdict(), "data": data, "only": only, "from": from_}, "start a new pipeline without --resume"
        )
        run = find_run(run_root(runs), "pipeline", resume)
    if first:
        examine_machine(run_root(runs), context.device, output)
    ended = _run(run, context, tell, deadline)
    _conclude(run, ended, output, seconds=time.monotonic() - began)
    return ended.exit_code


def _create(choices: Choices, sources: dict[str, str], only: list[str], first: str | None, root: Path, tell: "Tell") -> "Run":
    """A new pipeline; its folder appears only once all that the user gave has been found good."""
    from omnictl.pipeline.pipeline import choose_config, create_pipeline_run, make_plan
    from omnictl.pipeline.project.read_project import check_sources, read_project
    from omnictl.pipeline.run_folder import absolute_source

    preset = choices.preset or DEFAULT_PRESET
    project = None if choices.config is None else read_project(choices.config, preset=preset)
    name = run_name(choices, preset)
    check_tinyworld(choices.data)
    if only and first is not None:
        raise UsageError("--only and --from cannot go together", where="--from", fix="leave one of them out")
    for flag, stage in [*(("--only", stage) for stage in only), *([("--from", first)] if first is not None else [])]:
        _check_stage(flag, stage)
    if project is not None and first is not None:
        raise UsageError("--from cannot go with a project file", where="--from", fix="name the stages to train with --only")
    if project is not None:
        _check_only(only, [*project.stages, *sources], choices.config)
        _check_preset(choices.preset, project.preset, choices.config)
    plan = make_plan(only or ([] if project is None else list(project.stages)), first)
    overrides = [f"{stage}.{setting}" for stage in plan.train for setting in settings(stage, choices)]
    overrides += [f"{stage}.data.source={json.dumps(absolute_source(source))}" for stage, source in sources.items()]
    named = {} if project is None else project.presets
    presets = {stage: named.get(stage, preset) for stage in plan.train}
    trained = [text for text in overrides if text.partition(".")[0] in plan.train]
    config = choose_config(
        plan.train, presets, [*choices.set, *trained], None if project is None else project.config_of(plan.train)
    )
    check_sources(sources, config)
    return create_pipeline_run(root, plan, config, name, circumstances(), tell=tell)


def _check_only(only: list[str], known: list[str], file: Path | None) -> None:
    """Refuse a stage that the project file says nothing of: nobody knows what it is to be trained on.

    Raises:
        UsageError: there is one.
    """
    unknown = [stage for stage in only if stage not in known]
    if unknown:
        fix = f'add one: [{unknown[0]}] data = "PATH"; or give its data with --data {unknown[0]}=PATH'
        raise UsageError(f"{file} has no table [{unknown[0]}]", where="--only", fix=fix)


def _check_preset(given: str | None, of_file: str | None, file: Path | None) -> None:
    """Refuse a preset that would change nothing, since the project file gives one to all of its stages.

    Raises:
        UsageError: it is another than the file's.
    """
    if given is not None and of_file is not None and given != of_file:
        fix = f"leave --preset out, or change that line of {file}, or take it out"
        raise UsageError(f'{file} says preset = "{of_file}"', where="--preset", fix=fix)


def _split_data(given: list[str]) -> tuple[str | None, dict[str, str]]:
    """What `--data` says: a draw of TinyWorld for all stages, and the data of single ones.

    Raises:
        UsageError: data without a stage, or of a stage that a pipeline does not have.
        DataError: a misspelled TinyWorld.
    """
    world, sources = None, dict[str, str]()
    for text in given:
        stage, equals, source = text.partition("=")
        if equals and stage in command_stages():
            sources[stage] = source
        elif equals and stage.isidentifier():
            _check_stage("--data", stage)
        else:
            check_tinyworld(text)
            world = text
    return world, sources


def _check_stage(flag: str, stage: str) -> None:
    """Refuse a stage that a pipeline does not have.

    Raises:
        UsageError: it has no such stage.
    """
    if stage not in command_stages():
        raise UsageError(
            f"a pipeline has no stage {stage!r}, expected one of: {', '.join(command_stages())}",
            where=flag,
            fix="name one of these",
        )


def _run(run: "Run", context: "TrainContext", tell: "Tell", deadline: float | None) -> "PipelineResult":
    """Run the pipeline; an error says how to go on afterwards."""
    from omnictl.pipeline.pipeline import PipelineResult, run_pipeline

    try:
        return run_pipeline(run, context, tell, deadline=deadline)
    except KeyboardInterrupt:  # outside of a training, or the second one
        return PipelineResult("interrupted", 130, None, None)
    except OmniError as error:
        if not isinstance(error, Diverged):
            error.fix = f"{error.fix}\nthen go on with `{_resume(run)}`"
        raise


def _resume(run: "Run") -> str:
    return f"omnictl pipeline --resume {shlex.quote(str(run.path))}"


def _conclude(run: "Run", ended: "PipelineResult", output: Output, *, seconds: float) -> None:
    """Say how it ended and what to do next."""
    from omnictl.pipeline.pipeline import stage_runs, states

    measured, stages = ended.measured, states(run)
    value = {
        "run": str(run.path),
        "status": ended.status,
        "seconds": round(seconds, 3),
        "plan": run.record().get("plan"),
        "stages": stages,
        "evaluation": None if measured is None else measured.as_json(),
        "report": None if ended.page is None else str(ended.page),
    }
    if measured is None:
        output.result(value, f"interrupted, saved; go on with\n  {escape(_resume(run))}")
        return
    runs, verdicts = stage_runs(run), words(measured)
    done = f"{len(stages)} stages in {seconds:.0f} s"
    failed = ", ".join(stage for stage, word in verdicts.items() if word == "not learned")
    how = f"[bold red]not learned[/bold red]: {failed}; trained {done}" if failed else f"[bold green]finished[/bold green] {done}"
    text = f"{how}\nreport: {escape(str(ended.page))}"
    uses = use_lines(runs, verdicts)
    following = [*training_lines(runs, verdicts), *(["next", *uses] if uses else ["nothing of it can be used yet"])]
    output.result(value, *overview(measured), "\n".join([text, *map(escape, following)]))
