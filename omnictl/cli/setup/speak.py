"""`omnictl data speak`: dialogues whose questions are spoken."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import LARGEST_SEED, DeviceOption, JsonOption, RunsOption, check_finite, choose_run
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.data.dialogues.speak.folder import Say, SpokenDialogues
    from omnictl.data.dialogues.speak.questions import Cast

MOST_SHOWN = 5
"""Texts that stay written, shown to people."""


def speak(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Dialogues, as `omnictl sft --data` reads them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new or empty folder.", show_default=False)],
    share: Annotated[
        float, typer.Option(min=0, max=1, callback=check_finite, help="Of the questions that are spoken; the others stay written.")
    ] = 1.0,
    voices: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Who asks; default: 33 voices, four others in the test.", show_default=False),
    ] = None,
    talker: Annotated[
        str | None, typer.Option(metavar="RUN", help="Let a trained Talker's speakers ask, not espeak-ng.", show_default=False)
    ] = None,
    replies: Annotated[bool, typer.Option("--replies", help="Speak the replies, too, in one voice, to train a Talker on.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of who asks what, and in what room.")] = 0,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Turn written dialogues into spoken ones.

    The user's questions become recordings, a voice for each dialogue;
    images and replies stay as they are. Numbers, dates, units and
    abbreviations are read out in English. Questions that cannot be spoken
    stay written and are listed in left_written.csv.

    DIR gets dialogues.jsonl, audio/, questions.csv (what the recordings
    say), images/; with --replies also replies/, the sentences of the
    replies.
    """
    from omnictl.data.dialogues.speak.folder import SpeakSettings, speak_dialogues

    output = Output(as_json=as_json)
    output.show_log()
    names = [name.strip() for name in (voices or "").split(",") if name.strip()]
    cast, say, reply_voice = _choose_espeak(names) if talker is None else _choose_talker(names, talker, runs, device)
    settings = SpeakSettings(share=share, seed=seed, cast=cast, reply_voice=reply_voice if replies else None)
    written = speak_dialogues(path, out, settings, say)
    if cast.unseen and written.dialogues["test"]:
        output.say("half of the test split is asked by voices that no other split has")
    commands = [f"omnictl sft --data {shlex.quote(str(out))}"]
    commands += [f"omnictl talker --data {shlex.quote(str(out / 'replies'))}"] if written.replies else []
    output.result(
        {"out": str(out), **_as_json(written), "commands": commands},
        "\n".join([*_lines(written, out), "next", *(f"  {escape(command)}" for command in commands)]),
    )


def _choose_espeak(names: list[str]) -> "tuple[Cast, Say, str]":
    """Who asks, what says it, and the voice of the replies."""
    from omnictl.data.dialogues.speak.voices import choose_voices, say_with_espeak
    from omnictl.tinyworld.speech.voices import REPLY_VOICE

    return choose_voices(names), say_with_espeak, REPLY_VOICE


def _choose_talker(names: list[str], run: str, runs: Path | None, device: str) -> "tuple[Cast, Say, str]":
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.trainer.hardware.device import choose_device
    from omnictl.use.say import open_voice
    from omnictl.use.talker_voices import TalkerVoices

    chosen = choose_run(run_root(runs), "talker", run)
    speakers = TalkerVoices(open_voice(chosen.model, choose_device(device), cache_dir()))
    return speakers.choose(names), speakers.say, speakers.names[0]


def _as_json(written: "SpokenDialogues") -> dict[str, object]:
    return {
        "splits": {split: {"dialogues": count} for split, count in written.dialogues.items()},
        "questions": written.questions,
        "spoken": written.spoken,
        "minutes": written.seconds / 60,
        "voices": dict(written.voices),
        "replies": written.replies,
        "reply_minutes": written.reply_seconds / 60,
        "left_written": [text._asdict() for text in written.left_written],
        "broken": [row._asdict() for row in written.broken],
    }


def _lines(written: "SpokenDialogues", out: Path) -> list[str]:
    counts = ", ".join(f"{count:,} {split}" for split, count in written.dialogues.items())
    lines = [
        f"{counts} dialogues written to {escape(str(out))}",
        f"questions spoken: {written.spoken:,} of {written.questions:,}, {written.seconds / 60:.1f} minutes,"
        f" voices: {len(written.voices)}",
    ]
    if written.replies:
        lines.append(f"sentences of the replies spoken: {written.replies:,}, {written.reply_seconds / 60:.1f} minutes")
    left = written.left_written
    if left:
        lines.append(f"texts that cannot be spoken and stay written: {len(left):,}, all in {escape(str(out / 'left_written.csv'))}")
        lines += [f"  {escape(f'{text.where}: {text.reason}')}" for text in left[:MOST_SHOWN]]
        lines += [f"  … and {len(left) - MOST_SHOWN:,} more"] if len(left) > MOST_SHOWN else []
    if written.broken:
        lines.append(f"rows left out, as training sets them aside: {len(written.broken):,}")
        lines += [f"  {escape(f'{row.where}: {row.message}')}" for row in written.broken[:MOST_SHOWN]]
        lines += [f"  … and {len(written.broken) - MOST_SHOWN:,} more"] if len(written.broken) > MOST_SHOWN else []
    return lines
