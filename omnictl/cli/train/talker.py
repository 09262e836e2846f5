"""`omnictl talker`: train a voice."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.console import Output
from omnictl.cli.options import (
    DEFAULT_PRESET,
    ConfigOption,
    DeviceOption,
    JsonOption,
    MaxMinutesOption,
    PresetOption,
    QuietOption,
    ResumeOption,
    RunNamesOption,
    RunsOption,
    SeedOption,
    resolve_config,
)
from omnictl.cli.train.stage import Choices, circumstances, conclude, run_name, run_to_go_on_with, settings
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.pipeline.train_stage import Prepared
    from omnictl.runs.run import Run


def talker(
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. talker.train.lr=1e-3; repeatable.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Your own data; default: TinyWorld.", show_default=False)] = None,
    runs: RunsOption = None,
    name: RunNamesOption = None,
    resume: ResumeOption = None,
    init: Annotated[
        str | None, typer.Option(metavar="RUN", help="Start from another Talker's weights, with its codec and aligner.")
    ] = None,
    codec: Annotated[str | None, typer.Option(metavar="RUN", help="Take this codec instead of training one.")] = None,
    aligner: Annotated[
        str | None, typer.Option(metavar="RUN", help="Take durations from this aligner, or from an `asr` run.")
    ] = None,
    thinker: Annotated[str | None, typer.Option(metavar="RUN", help="Let the Thinker of this `pretrain` run read along.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Train every part for so many steps in all.")] = None,
    max_minutes: MaxMinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train a codec, an aligner and the Talker, one after the other."""
    began = time.monotonic()
    from omnictl.cli.train.progress import train_context
    from omnictl.pipeline.train_stage import prepare_together, reopen, train_prepared

    output = Output(as_json=as_json, quiet=quiet)
    choices = Choices(preset, config, set_ or [], data, name, init, seed)
    deadline = None if max_minutes is None else began + 60 * max_minutes
    context = train_context(output, device)
    root = run_root(runs)
    given = {"codec": codec, "aligner": aligner, "thinker": thinker}

    def begin() -> "Prepared":
        run = run_to_go_on_with(root, "talker", resume, {**choices._asdict(), **given}) or _create(choices, given, root, output)
        return reopen(run, cache=context.cache)

    output.tell_log()
    prepared = prepare_together(begin, context)
    outcome = train_prepared(prepared, context, deadline=deadline, max_steps=max_steps)
    conclude("talker", prepared.run, outcome, output, seconds=time.monotonic() - began)
    return outcome.exit_code


def _create(choices: Choices, given: dict[str, str | None], root: Path, output: Output) -> "Run":
    """The run of a new Talker; its folder appears only once all that the user gave has been found good."""
    from omnictl.data.cache import cache_dir
    from omnictl.pipeline.train_talker import create_talker_run
    from omnictl.runs.run import find_run
    from omnictl.stages.talker import PARTS
    from omnictl.stages.talker_recipe import SpeakingConfig

    config = resolve_config("talker", choices.preset, choices.config, [*choices.set, *settings("talker", choices)])
    assert isinstance(config, SpeakingConfig)
    parents: dict[str, Path] = {}
    if choices.init is not None:
        other = find_run(root, "talker", choices.init)
        held = {name: other.model / name for name in PARTS}
        parents = {"init": other.path, **{name: folder for name, folder in held.items() if folder.is_dir()}}
    for part, reference in given.items():
        if reference is not None:
            parents[part] = _find_part(root, part, reference).path
    output.say("reading the data …")
    output.tell_log()
    name = run_name(choices, choices.preset or DEFAULT_PRESET)
    return create_talker_run(root, config, name, circumstances(), parents, cache=cache_dir())


def _find_part(root: Path, part: str, reference: str) -> "Run":
    """The run that `--codec`, `--aligner` or `--thinker` names; durations may come from a recogniser, too."""
    from omnictl.runs.run import Run, find_run

    if part == "aligner" and (Path(reference) / "run.json").is_file() and Run(Path(reference)).stage == "asr":
        return Run(Path(reference))
    return find_run(root, "pretrain" if part == "thinker" else part, reference)
