"""`omnictl data`: look a corpus over before training on it, turn it into another, and write TinyWorld out as files."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.markup import escape

from omnictl.cli.console import Output, error_fields, show_error
from omnictl.cli.options import JsonOption
from omnictl.cli.setup.align import align
from omnictl.cli.setup.describe import describe
from omnictl.cli.setup.get import get
from omnictl.cli.setup.join import join
from omnictl.cli.setup.speak import speak
from omnictl.errors import UsageError

if TYPE_CHECKING:
    from omnictl.config.split import Split
    from omnictl.data.inspect.findings import FindingsReport

app = typer.Typer(help="Get, check, join, describe, speak and align data, write TinyWorld out as files.", no_args_is_help=True)
app.command("get")(get)
app.command("speak")(speak)
app.command("describe")(describe)
app.command("align")(align)
app.command("join")(join)

MOST_COUNTS = 12
"""Of a kind that are shown to people, the commonest first."""


class ExportSummary(NamedTuple):
    """What was written."""

    name: str
    """Of the data."""
    unit: str
    counts: "Mapping[Split, int]"


class KindName(StrEnum):
    """Kind of data."""

    text = "text"
    speech = "speech"
    images = "images"
    dialogues = "dialogues"


class TargetsName(StrEnum):
    """What transcripts are spelled in."""

    characters = "characters"
    chars = "chars"


PathArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATH", help="A manifest, a corpus folder, text files, tinyworld or tinyworld:SEED.", show_default=False
    ),
]
KindOption = Annotated[
    KindName | None, typer.Option(help="What it is; default: what it looks like, TinyWorld speech.", show_default=False)
]
TargetsOption = Annotated[
    TargetsName, typer.Option(help="What transcripts are spelled in: a to z, or the characters that they have (targets.kind).")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many recordings, images or dialogues of each split.", show_default=False)
]

EXPORTED_IMAGES = 10_000
"""Of TinyWorld's endless training scenes, unless --num says otherwise: about 250 MB with the rest."""

EXPORTED_DIALOGUES, EXPORTED_EVAL_DIALOGUES = 1_000, 200
"""Over all tasks, of the training split and of each other one, unless --num and --num-eval say otherwise."""


@app.command()
def check(
    path: PathArgument,
    kind: KindOption = None,
    limit: LimitOption = None,
    targets: TargetsOption = TargetsName.characters,
    as_json: JsonOption = False,
) -> int:
    """Read everything once and report every problem.

    Broken (exit code 3): rows of the manifest, audio and images that
    cannot be decoded, text that cannot be read, transcripts that cannot be
    spelled or are too long for their audio at 50 symbols a second, labels
    that the training split never has.

    Warnings: too long for 25 symbols a second, suspicious speaking rates,
    very long recordings; images with two different labels, or smaller
    than 16 pixels a side; values that few training images have, an
    attribute that most lack; one recording or image in two splits; spoken
    replies that cannot be decoded.
    """
    output = Output(as_json=as_json)
    output.show_log()
    report = _check(path, _choose_kind(path, kind, limit), limit, targets)
    error = report.error()
    lists = {
        "broken": [problem._asdict() for problem in report.broken],
        "warnings": [problem._asdict() for problem in report.warnings],
    }
    ending = {} if error is None else {"error": error_fields(error)}
    output.result({**_as_json(report, limit), **lists, **ending}, "\n".join([*_problems(report), *_table(report)]))
    if error is None:
        return 0
    show_error(error, Output(as_json=False))
    return error.exit_code


@app.command()
def stats(path: PathArgument, kind: KindOption = None, limit: LimitOption = None, as_json: JsonOption = False) -> None:
    """Print how much of what there is; of audio and images, only headers are read.

    What cannot be read is counted and left out. TinyWorld is spoken for
    it, or drawn: 1,000 images of each split, 200 dialogues.
    """
    output = Output(as_json=as_json)
    output.show_log()
    report = _measure(path, _choose_kind(path, kind, limit), limit)
    output.result(_as_json(report, limit), "\n".join(_table(report)))


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="A new or empty folder.", show_default=False)],
    kind: Annotated[KindName, typer.Option(help="What to write.")] = KindName.text,
    data: Annotated[str, typer.Option(help="tinyworld, or tinyworld:SEED for another draw.")] = "tinyworld",
    num: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training documents or recordings, default: as in training; images, default: 10,000; dialogues: 1,000.",
            show_default=False,
        ),
    ] = None,
    num_eval: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Test ones, and as many validation ones (half as many images); default: as in training; dialogues: 200.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write TinyWorld out as files, which --data reads back the same.

    Text: documents.jsonl. The ChatML of its dialogues, special tokens in
    TinyWorld, is plain characters when it is read from files.

    Speech: metadata.csv, and 16-bit FLAC at 16 kHz in audio/.

    Images: metadata.jsonl with labels and captions, and PNG of 112 x 112
    pixels in images/, to train on with data.augmentation=none (mirrored,
    "on the left" would be wrong) and data.top1='["shape", "colour"]'.

    Dialogues: dialogues.jsonl, all tasks in turn, with PNG in images/, what
    is asked aloud in audio/, and each last answer spoken in replies/.
    """
    from omnictl.data.manifest.source import tinyworld_seed

    output = Output(as_json=as_json)
    output.show_log()
    seed = tinyworld_seed(data)
    if seed is None:
        raise UsageError(
            f"only TinyWorld is written out, found {data!r}", where="--data", fix="leave --data out, or --data tinyworld:SEED"
        )
    write = {
        KindName.text: _export_text,
        KindName.speech: _export_speech,
        KindName.images: _export_images,
        KindName.dialogues: _export_dialogues,
    }[kind]
    name, unit, counts = write(seed, out, num, num_eval)
    sizes = {split: {unit: count} for split, count in counts.items()}
    written = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    output.result(
        {"source": name, "kind": kind.value, "out": str(out), "splits": sizes},
        f"{written} {unit} of {name} written to {escape(str(out))}",
    )


def _export_text(seed: int, out: Path, num: int | None, num_eval: int | None) -> ExportSummary:
    from omnictl.data.export import export_text
    from omnictl.data.text.corpus import TextDataConfig
    from omnictl.data.text.tinyworld import TinyWorldText

    usual = TextDataConfig()
    world = TinyWorldText(seed, num or usual.num_documents, num_eval or usual.num_eval_documents)
    return ExportSummary(world.name, "documents", export_text(world, out))


def _export_speech(seed: int, out: Path, num: int | None, num_eval: int | None) -> ExportSummary:
    from omnictl.data.export import export_speech
    from omnictl.data.speech.corpus import SpeechDataConfig
    from omnictl.data.speech.tinyworld import TinyWorldSpeech

    usual = SpeechDataConfig()
    world = TinyWorldSpeech(seed, num or usual.num_utterances, num_eval or usual.num_eval_utterances)
    return ExportSummary(world.name, "utterances", export_speech(world, out))


def _export_images(seed: int, out: Path, num: int | None, num_eval: int | None) -> ExportSummary:
    from omnictl.data.export import export_images
    from omnictl.data.images.corpus import ImageDataConfig
    from omnictl.data.images.tinyworld import TinyWorldImages

    if num_eval == 1:
        raise UsageError("one test image leaves none to validate on", where="--num-eval", fix="--num-eval 2 or more")
    world = TinyWorldImages(seed, num_eval or ImageDataConfig().num_eval_images, ())
    return ExportSummary(world.name, "pictures", export_images(world, out, num=num or EXPORTED_IMAGES))


def _export_dialogues(seed: int, out: Path, num: int | None, num_eval: int | None) -> ExportSummary:
    from omnictl.data.dialogues.tinyworld import TinyWorldDialogues
    from omnictl.data.export import export_dialogues

    world = TinyWorldDialogues.few(seed, num or EXPORTED_DIALOGUES, num_eval or EXPORTED_EVAL_DIALOGUES)
    return ExportSummary(world.name, "dialogues", export_dialogues(world, out))


def _check(path: str, kind: str, limit: int | None, targets: TargetsName) -> "FindingsReport":
    if kind == "images":
        from omnictl.data.inspect.images import check_images

        return check_images(path, limit=limit)
    if kind == "dialogues":
        from omnictl.data.inspect.dialogues import check_dialogues

        return check_dialogues(path, limit=limit)
    from omnictl.data.inspect.text_and_speech import check_speech, check_text

    return (
        check_text(path)
        if kind == "text"
        else check_speech(path, limit=limit, targets="chars" if targets is TargetsName.chars else "characters")
    )


def _measure(path: str, kind: str, limit: int | None) -> "FindingsReport":
    if kind == "images":
        from omnictl.data.inspect.images import measure_images

        return measure_images(path, limit=limit)
    if kind == "dialogues":
        from omnictl.data.inspect.dialogues import measure_dialogues

        return measure_dialogues(path, limit=limit)
    from omnictl.data.inspect.text_and_speech import check_text, measure_speech

    return check_text(path) if kind == "text" else measure_speech(path, limit=limit)


def _choose_kind(path: str, kind: KindName | None, limit: int | None) -> str:
    """The kind asked for, else what the path looks like.

    Raises:
        UsageError: a limit for text.
        DataError: no such path, or of no known kind.
    """
    from omnictl.data.inspect.corpus_kind import find_kind

    chosen = find_kind(path) if kind is None else kind.value
    if chosen == "text" and limit is not None:
        raise UsageError(
            f"--limit is for recordings, images and dialogues; {path} is text, which is read whole",
            where="--limit",
            fix="leave --limit out",
        )
    return chosen


def _as_json(report: "FindingsReport", limit: int | None) -> dict[str, object]:
    return {
        "source": report.source,
        "kind": report.kind,
        "limit_per_split": limit,
        report.unit: report.total,
        f"{report.unit}_broken": report.num_broken,
        **report.summary,
    }


def _problems(report: "FindingsReport") -> list[str]:
    """A line for each."""
    marked = [("[red]broken[/red] ", problem) for problem in report.broken]
    marked += [("[yellow]warning[/yellow]", problem) for problem in report.warnings]
    return [f"{mark} {escape(f'{problem.where}: {problem.message}')}" for mark, problem in marked]


def _table(report: "FindingsReport") -> list[str]:
    broken = f", {report.num_broken:,} of them broken" if report.num_broken else ""
    files = f": {report.total:,} {report.unit}{broken}" if report.total else ""
    lines = [f"[bold]{report.kind}[/bold] in {escape(report.source)}{files}"]
    for name, value in report.summary.items():
        if name == "splits" and isinstance(value, Mapping):
            lines += [f"  {split:<32} {_sizes(sizes)}" for split, sizes in value.items()]
        elif name in ("labels", "tasks") and isinstance(value, Mapping):
            lines += [f"  {escape(f'{name}.{each}'):<32} {escape(_counts(counts))}" for each, counts in value.items()]
        elif isinstance(value, Mapping):
            lines.append(f"  {name:<32} {escape(_counts(value))}")
        else:
            lines.append(f"  {name:<32} {_figure(value)}")
    return lines


def _sizes(sizes: Mapping[str, object]) -> str:
    return "  ".join(f"{name} {_figure(value)}" for name, value in sizes.items())


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:MOST_COUNTS])
    more = len(counts) - MOST_COUNTS
    return f"{shown} … and {more:,} more" if more > 0 else shown


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
