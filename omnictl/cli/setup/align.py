"""`omnictl data align`: utterances out of long recordings with subtitles."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import DeviceOption, JsonOption, RunsOption, check_finite, choose_run
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.use.subtitle_alignment import AlignmentSummary

MOST_SHOWN = 5
"""Subtitles that are set aside, shown to people."""


def align(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Recordings with .srt or .vtt files of the same names.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.", show_default=False)],
    asr: Annotated[
        str, typer.Option(metavar="RUN", help="The recogniser that listens: a run's path or name, or latest.")
    ] = "latest",
    margin: Annotated[
        float, typer.Option(min=0, max=30, callback=check_finite, help="Seconds by which the subtitles' times may be wrong.")
    ] = 2.0,
    most_nats: Annotated[
        float, typer.Option(min=0, callback=check_finite, help="Nats a symbol; what the recogniser doubts more is set aside.")
    ] = 2.0,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Cut utterances out of long recordings with subtitles.

    When each is said is found by a recogniser of such speech, whatever the
    subtitles' own times are (up to --margin). Without a recogniser, give
    FOLDER to asr as it is: it is cut at the subtitles' own times then.

    DIR gets audio/, metadata.csv, and times.csv with all times.
    """
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.trainer.hardware.device import choose_device
    from omnictl.use.subtitle_alignment import AlignmentSettings, align_folder
    from omnictl.use.transcribe import open_recogniser

    output = Output(as_json=as_json)
    output.show_log()
    run = choose_run(run_root(runs), "asr", asr)
    recogniser = open_recogniser(run, choose_device(device), cache_dir())
    summary = align_folder(folder, out, recogniser, AlignmentSettings(margin, most_nats))
    commands = [f"omnictl data check {shlex.quote(str(out))}", f"omnictl asr --data {shlex.quote(str(out))}"]
    output.result(
        {
            "out": str(out),
            "run": str(run.path),
            "utterances": summary.utterances,
            "minutes": summary.seconds / 60,
            "median_shift_seconds": summary.shift,
            "set_aside": [row._asdict() for row in summary.set_aside],
            "commands": commands,
        },
        "\n".join([*_lines(summary, out), "next", *(f"  {escape(command)}" for command in commands)]),
    )


def _lines(summary: "AlignmentSummary", out: Path) -> list[str]:
    lines = [
        f"{summary.utterances:,} utterances written to {escape(str(out))}, {summary.seconds / 60:.1f} minutes;"
        f" they begin {abs(summary.shift):.2f} s {'after' if summary.shift >= 0 else 'before'} their subtitles (median)"
    ]
    if summary.set_aside:
        lines.append(f"subtitles set aside: {len(summary.set_aside):,}")
        lines += [f"  {escape(f'{row.where}: {row.message}')}" for row in summary.set_aside[:MOST_SHOWN]]
        lines += [f"  … and {len(summary.set_aside) - MOST_SHOWN:,} more"] if len(summary.set_aside) > MOST_SHOWN else []
    return lines
