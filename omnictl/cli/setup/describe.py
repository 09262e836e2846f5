"""`omnictl data describe`: dialogues about images, made of their labels and captions."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import JsonOption

if TYPE_CHECKING:
    from omnictl.data.images.describe.describe_images import DescribeReport


def describe(
    images: Annotated[
        str,
        typer.Argument(metavar="IMAGES", help="Class folders, a manifest, COCO captions, … as for vision.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file of dialogues, ending in .jsonl.", show_default=False)],
    label_name: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="What labels are, if not things: breed, mood, group.", show_default=False),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='JSON of what labels are called: {"n01440764": "tench"}.', show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images of each split.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is asked about which image, in which words.")] = 1,
    max_broken: Annotated[float, typer.Option(min=0, max=1, help="Share of rows that may be set aside.")] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Make dialogues about labelled or captioned images, for sft.

    About each image: what it is, or each named attribute; yes or no, half
    of them about a label that is easily taken for the right one; its
    captions; and two or three of these in turn. Splits are those of vision.

    Images that lie neither in the folder of FILE nor below are copied.
    """
    from omnictl.data.images.describe.describe_images import Wording, describe_images, read_names

    output = Output(as_json=as_json)
    output.show_log()
    wording = Wording(label_name, {} if names is None else read_names(names))
    report = describe_images(images, out, seed=seed, limit=limit, max_broken=max_broken, wording=wording)
    commands = [f"omnictl data check {shlex.quote(str(out))}", f"omnictl sft --data {shlex.quote(str(out))}"]
    output.result(_as_json(images, out, seed, report, commands), "\n".join(_lines(out, report, commands)))


def _lines(out: Path, report: "DescribeReport", commands: list[str]) -> list[str]:
    from omnictl.config.split import SPLITS
    from omnictl.data.manifest.quarantine import format_rows

    total = sum(sum(counts.values()) for counts in report.tasks.values())
    widths = max(len(task) for task in (*report.tasks, "dialogues")) + 2
    head = "".join(f"{split:>10}" for split in SPLITS)
    rows = [("images", report.images), *report.tasks.items()]
    table = [f"  {escape(name):<{widths}}" + "".join(f"{counts[split]:>10,}" for split in SPLITS) for name, counts in rows]
    copied = f"; {report.num_copied:,} images copied beside it" if report.num_copied else ""
    aside = (
        [f"set aside: {len(report.set_aside):,} rows, or facts of them", format_rows(report.set_aside)] if report.set_aside else []
    )
    return [
        *(f"[yellow]{escape(line)}[/yellow]" if number == 0 else escape(line) for number, line in enumerate(aside)),
        *(f"[yellow]note[/yellow] {escape(note)}" for note in report.notes),
        f"  {'dialogues':<{widths}}{head}",
        *table,
        f"[bold green]wrote[/bold green] {total:,} dialogues to {escape(str(out))}{copied}",
        "next",
        *(f"  {escape(command)}" for command in commands),
    ]


def _as_json(images: str, out: Path, seed: int, report: "DescribeReport", commands: list[str]) -> dict[str, object]:
    return {
        "source": images,
        "out": str(out),
        "seed": seed,
        "images": dict(report.images),
        "tasks": {task: dict(counts) for task, counts in report.tasks.items()},
        "images_copied": report.num_copied,
        "set_aside": [row._asdict() for row in report.set_aside],
        "notes": list(report.notes),
        "commands": commands,
    }
