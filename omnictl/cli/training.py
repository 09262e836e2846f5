"""`omnictl STAGE`: train a stage, or go on with one of its runs."""

import json
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape

from omnictl.cli.configs import DEFAULT_PRESET, resolved
from omnictl.cli.console import Output, figures
from omnictl.cli.options import DeviceOption, JsonOption, RunsOption, run_root
from omnictl.errors import UsageError

if TYPE_CHECKING:
    import torch

    from omnictl.runs.run import Run
    from omnictl.stages.protocol import TrainableStage
    from omnictl.train.loop import Outcome


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
        preset: Annotated[str | None, typer.Option(help="debug, tiny (the default) or small.", show_default=False)] = None,
        config: Annotated[Path | None, typer.Option(help="Config file: JSON, TOML or YAML.", show_default=False)] = None,
        set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")] = None,
        data: Annotated[str | None, typer.Option(help="Your own data; default: TinyWorld.", show_default=False)] = None,
        runs: RunsOption = None,
        name: Annotated[str | None, typer.Option(help="Name of the run; default: the preset's.", show_default=False)] = None,
        resume: Annotated[str | None, typer.Option(metavar="RUN|latest", help="Go on with a run.", show_default=False)] = None,
        init: Annotated[str | None, typer.Option(metavar="RUN", help="Start from another run's weights.")] = None,
        max_steps: Annotated[int | None, typer.Option(min=1, help="Train for so many steps in all.")] = None,
        max_minutes: Annotated[float | None, typer.Option(min=0.01, help="Time for the whole command.")] = None,
        device: DeviceOption = "auto",
        seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights and data order.")] = None,
        quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
        as_json: JsonOption = False,
    ) -> int:
        began = time.monotonic()
        from omnictl.train.device import choose_device

        output = Output(as_json=as_json, quiet=quiet)
        choices = Choices(preset, config, set_ or [], data, name, init, seed)
        deadline = None if max_minutes is None else began + 60 * max_minutes
        chosen_device = choose_device(device)
        run, trained = _begin(stage, choices, run_root(runs), resume, output)
        outcome = _train(trained, run, output, device=chosen_device, deadline=deadline, max_steps=max_steps)
        conclude(stage, run, outcome, output, seconds=time.monotonic() - began)
        return outcome.exit_code

    return command


def _begin(stage: str, choices: Choices, root: Path, resume: str | None, output: Output) -> "tuple[Run, TrainableStage]":
    """A new run, or the one to go on with, and its stage."""
    from omnictl.data.cache import cache_dir
    from omnictl.runs.run import Run, find_run
    from omnictl.stages import stage_type

    if resume is None:
        return _create(stage, choices, root, output)
    refuse_with_resume(choices._asdict())
    run = find_run(root, stage, resume)
    trained = stage_type(stage).open(run.model, data=None, cache=cache_dir())
    parent = run.record()["parents"].get("init")
    if parent is not None and not any(run.checkpoints.glob("step-*")):  # a checkpoint would replace them
        trained.take_weights(Run(Path(parent)))
    return run, trained


def refuse_with_resume(choices: Mapping[str, object]) -> None:
    """Refuse what decides a new run's config.

    Raises:
        UsageError: some of it was given.
    """
    given = [f"--{name}" for name, value in choices.items() if value not in (None, [])]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot go with --resume: a run keeps its config",
            where=given[0],
            fix="leave that out, or start a new run from the weights of the old one with --init RUN",
        )


def _create(stage: str, choices: Choices, root: Path, output: Output) -> "tuple[Run, TrainableStage]":
    """A new run and its stage; its folder appears only once all that the user gave has been found good."""
    from omnictl.data.cache import cache_dir
    from omnictl.pipeline.runs import settle
    from omnictl.runs.run import find_run
    from omnictl.stages import stage_type

    kind = stage_type(stage)
    name = run_name(choices, choices.preset or DEFAULT_PRESET)
    overrides = [*choices.set]
    if choices.data is not None:
        overrides.append(f"data.source={json.dumps(lasting(choices.data))}")
    if choices.seed is not None:
        overrides.append(f"train.seed={choices.seed}")
    config = resolved(stage, choices.preset, choices.config, overrides)
    parent = None if choices.init is None else find_run(root, stage, choices.init)
    output.say("reading the data …")
    output.tell_log()
    trained = kind.create(config, cache=cache_dir(), init=parent)
    parents = {} if parent is None else {"init": str(parent.path.absolute())}
    return settle(root, trained, name, {"parents": parents, **circumstances()}), trained


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


def lasting(data: str) -> str:
    """The source as the run's config keeps it: a path must be found again from another working directory."""
    path = Path(data).expanduser()
    return str(path.absolute()) if path.exists() else data


def circumstances() -> dict[str, object]:
    """Versions, machine and command line, for the record."""
    import torch

    from omnictl import __version__

    return {
        "command": shlex.join(["omnictl", *sys.argv[1:]]),
        "versions": {"omnictl": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"platform": platform.platform(), "threads": torch.get_num_threads()},
    }


def _train(
    trained: "TrainableStage", run: "Run", output: Output, *, device: "torch.device", deadline: float | None, max_steps: int | None
) -> "Outcome":
    from omnictl.cli.progress import TrainingProgress
    from omnictl.train.device import keep_freed_memory
    from omnictl.train.loop import train

    keep_freed_memory()
    with TrainingProgress(output, trained.name, trained.unit) as progress:
        return train(
            trained,
            trained.config.train,
            run,
            device=device,
            observer=progress,
            deadline=deadline,
            max_steps=max_steps,
        )


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
        text += f"next\n  omnictl eval {stage} --run {path}\n" + _next_commands(stage, path)
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


def _next_commands(stage: str, path: str) -> str:
    use = {"pretrain": "chat", "asr": "transcribe FILE", "vision": "classify FILE", "talker": 'say "Hello." --out hello.wav'}
    return f"  omnictl {use[stage]} --run {path}" if stage in use else ""
