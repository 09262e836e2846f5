"""`omnictl talker` and `omnictl say`: train a voice, and let it speak."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.configs import DEFAULT_PRESET, resolved
from omnictl.cli.console import Output
from omnictl.cli.evaluating import chosen_run
from omnictl.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    MaxMinutesOption,
    PresetOption,
    QuietOption,
    ResumeOption,
    RunNamesOption,
    RunOption,
    RunsOption,
    SeedOption,
    run_root,
)
from omnictl.cli.training import Choices, circumstances, conclude, run_name, run_to_go_on_with, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omnictl.pipeline.single import Prepared
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
    from omnictl.cli.progress import means
    from omnictl.pipeline.single import prepare_together, reopen, train_prepared

    output = Output(as_json=as_json, quiet=quiet)
    choices = Choices(preset, config, set_ or [], data, name, init, seed)
    deadline = None if max_minutes is None else began + 60 * max_minutes
    how = means(output, device)
    root = run_root(runs)
    given = {"codec": codec, "aligner": aligner, "thinker": thinker}

    def begin() -> "Prepared":
        run = run_to_go_on_with(root, "talker", resume, {**choices._asdict(), **given}) or _create(choices, given, root, output)
        return reopen(run, cache=how.cache)

    output.tell_log()
    prepared = prepare_together(begin, how)
    outcome = train_prepared(prepared, how, deadline=deadline, max_steps=max_steps)
    conclude("talker", prepared.run, outcome, output, seconds=time.monotonic() - began)
    return outcome.exit_code


def _create(choices: Choices, given: dict[str, str | None], root: Path, output: Output) -> "Run":
    """The run of a new Talker; its folder appears only once all that the user gave has been found good."""
    from omnictl.data.cache import cache_dir
    from omnictl.pipeline.talking import create_talker_run
    from omnictl.runs.run import find_run
    from omnictl.stages.speaking import SpeakingConfig
    from omnictl.stages.talker import PARTS

    config = resolved("talker", choices.preset, choices.config, [*choices.set, *settings("talker", choices)])
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


def say(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What to say; - reads standard input as it comes.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="WAV", help="Sound file to write.", show_default=False)],
    run: RunOption = None,
    speaker: Annotated[str | None, typer.Option(help="Whose voice, if the Talker has several.", show_default=False)] = None,
    speed: Annotated[float, typer.Option(min=0.25, max=4, help="2 is twice as fast.")] = 1.0,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=10, help="0: always the likeliest; default: the run's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say a text with the newest Talker."""
    from omnictl.data.cache import cache_dir
    from omnictl.say import Manner, open_voice, say_to_file
    from omnictl.train.device import choose_device

    output = Output(as_json=as_json)
    chosen = chosen_run(run_root(runs), "talker", run)
    voice = open_voice(chosen.model, choose_device(device), cache_dir())
    output.say(f"speaking with {escape(str(chosen.path))} …")
    said = say_to_file(_pieces(text), out, voice, Manner(speaker=speaker, speed=speed, temperature=temperature, seed=seed))
    output.result(
        {"run": str(chosen.path), "speech": str(out), **said._asdict()},
        f"wrote {escape(str(out))}: {said.seconds:.1f} s of speech, first sound after {said.first_audio_seconds * 1000:.0f} ms,"
        f" {said.real_time_factor:.2f} s a second\nhear what a recogniser makes of it\n"
        f"  omnictl transcribe {escape(shlex.quote(str(out)))}",
    )


def _pieces(text: str) -> "Iterator[str]":
    if text == "-":
        yield from sys.stdin
    else:
        yield text
