"""`omnictl data join`: several corpora as one."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import JsonOption

if TYPE_CHECKING:
    from omnictl.data.join import JoinSummary

COMMANDS = {"text": ("pretrain",), "speech": ("asr", "talker"), "images": ("vision",), "dialogues": ("sft",)}
MOST_SHOWN = 5
"""Rows that cannot be used, shown to people."""


class JoinKind(StrEnum):
    """What is written."""

    text = "text"
    speech = "speech"
    images = "images"
    dialogues = "dialogues"


def join(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Corpora of one kind, as training reads them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.", show_default=False)],
    kind: Annotated[
        JoinKind | None,
        typer.Option(
            help="What to write; text: what is written in corpora of any kind. Default: what they are.", show_default=False
        ),
    ] = None,
    holdout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEAKER", help="All recordings of this speaker are the test split's; repeatable.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put corpora of one kind into one folder, for a stage to train on all.

    Rows keep the splits that training would give them. Labels of the same
    name become one; tasks keep their names. Images and recordings are hard
    links where the disk allows it, else copies.

    With --kind text, transcripts, captions and what is said in dialogues
    become texts, so that a Thinker knows the words of the other stages.
    """
    from omnictl.data.join import join_corpora

    output = Output(as_json=as_json)
    output.show_log()
    summary = join_corpora(corpora, out, kind=None if kind is None else kind.value, holdout=holdout or [])
    commands = [f"omnictl {stage} --data {shlex.quote(str(out))}" for stage in COMMANDS[summary.kind]]
    output.result(
        {
            "out": str(out),
            "kind": summary.kind,
            "corpora": summary.rows,
            "broken": [row._asdict() for row in summary.broken],
            "commands": commands,
        },
        "\n".join([*_lines(summary, out), "next", *(f"  {escape(command)}" for command in commands)]),
    )


def _lines(summary: "JoinSummary", out: Path) -> list[str]:
    lines = [f"{summary.kind} of {len(summary.rows)} corpora written to {escape(str(out))}"]
    for name, counts in summary.rows.items():
        lines.append(f"  {escape(name)}: {', '.join(f'{count:,} {split}' for split, count in counts.items())}")
    if summary.broken:
        lines.append(f"rows left out, as training sets them aside: {len(summary.broken):,}")
        lines += [f"  {escape(f'{row.where}: {row.message}')}" for row in summary.broken[:MOST_SHOWN]]
        lines += [f"  … and {len(summary.broken) - MOST_SHOWN:,} more"] if len(summary.broken) > MOST_SHOWN else []
    return lines
