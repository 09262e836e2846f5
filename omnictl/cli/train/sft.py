"""`omnictl sft`: join what was trained, and train it to answer."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
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
from omnictl.cli.train.stage import Choices, circumstances, conclude, run_name, run_to_go_on_with, settings
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.pipeline.train_stage import Prepared

STAGE = "sft"


def sft(
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    data: Annotated[str | None, typer.Option(help="Your own dialogues; default: TinyWorld.", show_default=False)] = None,
    runs: RunsOption = None,
    name: RunNameOption = None,
    resume: ResumeOption = None,
    init: InitOption = None,
    thinker: Annotated[str | None, typer.Option(metavar="RUN", help="The Thinker; default: the newest that fits.")] = None,
    asr: Annotated[str | None, typer.Option(metavar="RUN", help="The audio encoder; default: likewise.")] = None,
    vision: Annotated[str | None, typer.Option(metavar="RUN", help="The vision encoder; default: likewise.")] = None,
    talker: Annotated[str | None, typer.Option(metavar="RUN", help="The Talker to keep beside; default: likewise.")] = None,
    max_steps: MaxStepsOption = None,
    max_minutes: MaxMinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> int:
    """Stage E: join a Thinker with encoders, and train it to answer about text, pictures and sounds."""
    began = time.monotonic()
    from omnictl.cli.train.progress import train_context
    from omnictl.pipeline.train_stage import prepare_together, reopen, train_prepared

    output = Output(as_json=as_json, quiet=quiet)
    choices = Choices(preset, config, set_ or [], data, name, init, seed)
    given = {"pretrain": thinker, "asr": asr, "vision": vision, "talker": talker}
    deadline = None if max_minutes is None else began + 60 * max_minutes
    context = train_context(output, device)
    flags = {"thinker": thinker, "asr": asr, "vision": vision, "talker": talker}

    def begin() -> "Prepared":
        again = run_to_go_on_with(run_root(runs), STAGE, resume, {**choices._asdict(), **flags})
        return reopen(again, cache=context.cache) if again else _create(choices, given, run_root(runs), output, context.cache)

    prepared = prepare_together(begin, context)
    outcome = train_prepared(prepared, context, deadline=deadline, max_steps=max_steps)
    conclude(STAGE, prepared.run, outcome, output, seconds=time.monotonic() - began)
    return outcome.exit_code


def _create(choices: Choices, given: dict[str, str | None], root: Path, output: Output, cache: Path) -> "Prepared":
    """A new run of what was chosen; its folder appears only once all that the user gave has been found good."""
    from omnictl.pipeline.train_stage import prepare
    from omnictl.pipeline.upstream import choose_upstream
    from omnictl.runs.run import find_run
    from omnictl.stages.sft import SftConfig

    name = run_name(choices, choices.preset or DEFAULT_PRESET)
    config = resolve_config(STAGE, choices.preset, choices.config, [*choices.set, *settings(STAGE, choices)])
    assert isinstance(config, SftConfig)
    output.tell_log()
    parents = choose_upstream(root, config, given, cache=cache, tell=lambda line: output.say(escape(line)))
    if choices.init is not None:
        parents["init"] = find_run(root, STAGE, choices.init)
    output.say("reading the data …")
    return prepare(root, STAGE, config, name, circumstances(), parents, cache=cache)
