"""`omnictl say`: let a voice speak."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import LARGEST_SEED, DeviceOption, JsonOption, RunOption, RunsOption, check_finite, choose_run
from omnictl.cli.use.voice_options import PitchOption, SpeakerOption, SpeedOption
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from collections.abc import Iterator


def say(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What to say; - reads standard input as it comes.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="WAV", help="Audio file to write.", show_default=False)],
    run: RunOption = None,
    speaker: SpeakerOption = None,
    speed: SpeedOption = 1.0,
    pitch: PitchOption = 0.0,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=10, callback=check_finite, help="0: always the likeliest; default: the run's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of what is drawn.")] = 0,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say a text with the newest Talker."""
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.trainer.hardware.device import choose_device
    from omnictl.use.say import SpeechSettings, open_voice, say_to_file

    output = Output(as_json=as_json)
    chosen = choose_run(run_root(runs), "talker", run)
    voice = open_voice(chosen.model, choose_device(device), cache_dir())
    output.say(f"speaking with {escape(str(chosen.path))} …")
    said = say_to_file(
        _pieces(text), out, voice, SpeechSettings(speaker=speaker, speed=speed, pitch=pitch, temperature=temperature, seed=seed)
    )
    output.result(
        {"run": str(chosen.path), "speech": str(out), **said._asdict()},
        f"wrote {escape(str(out))}: {said.seconds:.1f} s of speech, first audio after {said.first_audio_seconds * 1000:.0f} ms,"
        f" {said.real_time_factor:.2f} s a second\nhear what a recogniser makes of it\n"
        f"  omnictl transcribe {escape(shlex.quote(str(out)))}",
    )


def _pieces(text: str) -> "Iterator[str]":
    if text == "-":
        yield from sys.stdin
    else:
        yield text
