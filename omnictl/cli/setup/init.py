"""`omnictl init`: looks at a folder of one's own files and writes a project file for `omnictl pipeline`."""

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import DEFAULT_PRESET, JsonOption, PresetOption, RunsOption
from omnictl.errors import ConfigError, DataError, UsageError
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from omnictl.data.inspect.folder_scan import FolderScan
    from omnictl.pipeline.project.survey import Corpus, Draft
    from omnictl.pipeline.project.time_estimate import TimeEstimate

_SHOWN_KINDS = 6
"""Kinds of other files that are named."""


def init(
    folder: Annotated[Path, typer.Argument(help="Of your files; default: this one.", show_default=False)] = Path(),
    out: Annotated[Path, typer.Option(metavar="FILE", help="Project file to write, ending in .toml.")] = Path("project.toml"),
    preset: PresetOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a folder of your own files and write a project file for `omnictl pipeline`.

    Says which files train which stage, how much there is, what is missing,
    and about how long it takes. Nothing is trained, and only FILE is written.
    """
    from omnictl.data.inspect.folder_scan import scan_folder
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.pipeline.project.read_project import read_project
    from omnictl.pipeline.project.survey import make_draft, measure_corpus
    from omnictl.pipeline.project.time_estimate import estimate_time
    from omnictl.pipeline.project.write_project import project_text
    from omnictl.runs.files import write_text
    from omnictl.trainer.hardware.device import choose_device

    output = Output(as_json=as_json)
    output.show_log(logging.WARNING)  # a corpus is read several times, and would say the same each time
    size = _check_preset(preset)
    _check_folder(folder)
    _check_out(out)
    output.say(f"looking at {escape(str(folder))} …")
    scan = scan_folder(folder, (run_root(runs), cache_dir()))
    corpora = []
    for place in scan.corpora:
        output.say(f"  {escape(str(place.path))} …")
        corpora.append(measure_corpus(place))
    draft = make_draft(corpora)
    _check_draft(folder, scan, corpora, draft)
    command = shlex.join(["omnictl", "init", str(folder), "--out", str(out)])
    write_text(out, project_text(draft, preset=size, file=out, command=command))
    estimate = estimate_time(read_project(out, preset=size), choose_device("auto"), cache_dir())
    following = shlex.join(["omnictl", "pipeline", "--config", str(out)])
    output.result(
        _as_json(out, size, scan, corpora, draft, estimate),
        _table(folder, corpora, draft),
        "\n".join(
            [
                *(f"not usable: {escape(line)}" for line in _unusable(corpora)),
                *(f"left out: {escape(line)}" for line in _left_out(draft)),
                *_unused(scan),
                escape(_time_line(draft, size, estimate)),
                f"[bold green]wrote[/bold green] {escape(str(out))}",
                f"next\n  {escape(following)}\n  {escape(following)} --max-minutes 60",
            ]
        ),
    )


def _check_preset(preset: str | None) -> str:
    """The preset that is meant.

    Raises:
        ConfigError: there is none of that name.
    """
    from omnictl.stages import command_recipe

    presets = command_recipe("pretrain").presets
    if preset is not None and preset not in presets:
        raise ConfigError(f"there is no preset {preset!r}", where="--preset", fix=f"name one of {', '.join(presets)}")
    return preset or DEFAULT_PRESET


def _check_folder(folder: Path) -> None:
    """Refuse what is not a folder with something in it.

    Raises:
        UsageError: it is none, or empty.
    """
    if not folder.exists():
        raise UsageError(f"there is no folder {folder}", where="FOLDER", fix="check the path")
    if not folder.is_dir():
        fix = f"name the folder that it lies in: omnictl init {shlex.quote(str(folder.parent))}"
        raise UsageError(f"{folder} is a file, and a project is made of a folder", where="FOLDER", fix=fix)
    if not any(True for entry in folder.iterdir() if not entry.name.startswith(".")):
        fix = "put your files there; docs/data.md says in which form, `omnictl data get --list` names public ones to begin with"
        raise UsageError(f"{folder} is empty", where="FOLDER", fix=fix)


def _check_out(out: Path) -> None:
    """Refuse a place where no project file can be written, before anything is looked at.

    Raises:
        UsageError: it is taken, in no folder, or has another ending.
    """
    if out.suffix != ".toml":
        raise UsageError(
            f"a project file is written as TOML, not as {out.suffix or 'a file without an ending'}",
            where="--out",
            fix=f"--out {out.with_suffix('.toml')}",
        )
    if out.exists() or out.is_symlink():
        fix = f"--out another.toml, or remove it first: rm {shlex.quote(str(out))}"
        raise UsageError(f"{out} is there already, and may have settings of yours", where="--out", fix=fix)
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", where="--out", fix=f"make it: mkdir -p {shlex.quote(str(out.parent))}")


def _check_draft(folder: Path, scan: "FolderScan", corpora: "Sequence[Corpus]", draft: "Draft") -> None:
    """Refuse a folder that no stage can be trained on, naming what was seen.

    Raises:
        DataError: that is so.
    """
    from omnictl.data.inspect.corpus_kind import RECOGNISED

    if draft.stages:
        return
    seen = [f"{count:,} {name}" for name, count in scan.others.items()]
    if not corpora:
        found = f", only {', '.join(seen[:_SHOWN_KINDS])}" if seen else ""
        raise DataError(
            f"{folder} has nothing that a stage could be trained on{found}\nRecognised are\n{RECOGNISED}",
            where=str(folder),
            fix="write a manifest beside your files (docs/data.md), or name the folder that they lie in",
        )
    lines = [f"{stage}: {choice.lacking}" for stage, choice in draft.choices.items()]
    raise DataError(
        "\n".join([f"{folder} has too little, or nothing that can be used", *lines]),
        where=str(folder),
        fix="add more of one kind, or mend it; a stage alone trains on less: omnictl STAGE --data PATH",
    )


def _table(folder: Path, corpora: "Sequence[Corpus]", draft: "Draft") -> "Table":
    from rich.table import Table

    table = Table(title=f"what {escape(str(folder))} has")
    for heading in ("data", "what it is", "trains"):
        table.add_column(heading)
    for corpus in corpora:
        name = corpus.path.relative_to(folder).as_posix() if corpus.path != folder else "."
        flaw = next(iter(corpus.flaws.values()), "").splitlines()
        what = corpus.size or f"{corpus.place.kind}: cannot be read: {flaw[0]}"
        table.add_row(escape(name), escape(what), _uses(corpus, draft))
    return table


def _uses(corpus: "Corpus", draft: "Draft") -> str:
    chosen = [stage for stage, choice in draft.choices.items() if choice.corpus is corpus]
    could = [stage for stage, choice in draft.choices.items() if corpus in choice.others]
    if chosen:
        return ", ".join(chosen)
    if could:
        return f"[dim]could train {', '.join(could)}[/dim]"
    return "[dim]too little[/dim]" if not corpus.flaws else "[yellow]not usable[/yellow]"


def _unusable(corpora: "Sequence[Corpus]") -> list[str]:
    """Why stages would refuse a corpus, once where they agree."""
    lines = []
    for corpus in corpora:
        for flaw in dict.fromkeys(corpus.flaws.values()):
            stages = ", ".join(stage for stage, other in corpus.flaws.items() if other == flaw)
            first, *more = flaw.splitlines()
            see = f" see omnictl data check {shlex.quote(str(corpus.path))}" if more else ""
            lines.append(f"{corpus.path} for {stages}: {first}{see}")
    return lines


def _left_out(draft: "Draft") -> list[str]:
    """What is missing for each stage that has no data."""
    lines = []
    for stage, choice in draft.choices.items():
        if choice.corpus is None:
            stands_in = "; others need it, so TinyWorld stands in" if stage in draft.stand_ins else ""
            lines.append(f"{stage}: {choice.lacking}{stands_in}")
    if draft.choices["sft"].corpus is None:
        lines[-1] += "; without them the stages stay apart, each usable by itself"
    return lines


def _unused(scan: "FolderScan") -> list[str]:
    named = [f"{count:,} {name}" for name, count in scan.others.items()]
    more = f" and {len(named) - _SHOWN_KINDS} more kinds" if len(named) > _SHOWN_KINDS else ""
    return [escape(f"passed over: {', '.join(named[:_SHOWN_KINDS])}{more}")] if named else []


def _time_line(draft: "Draft", preset: str, estimate: "TimeEstimate") -> str:
    from omnictl.pipeline.time_budget.description import duration

    plan = f"trains {', '.join(draft.stages)} with preset {preset}"
    unknown = f"the time of {', '.join(estimate.unknown)} is not known for these settings (--max-minutes measures it first)"
    if not estimate.seconds:
        return f"{plan}; {unknown}"
    parts = ", ".join(f"{unit} {duration(seconds)}" for unit, seconds in estimate.seconds.items())
    known = f"about {duration(estimate.total_seconds)} here, as on the built-in data ({parts})"
    return f"{plan}: {known}{f'; {unknown}' if estimate.unknown else ''}"


def _as_json(
    out: Path, preset: str, scan: "FolderScan", corpora: "Sequence[Corpus]", draft: "Draft", estimate: "TimeEstimate"
) -> dict[str, object]:
    return {
        "file": str(out),
        "preset": preset,
        "corpora": [
            {"path": str(corpus.path), "kind": corpus.place.kind, "size": corpus.size, "flaws": dict(corpus.flaws)}
            for corpus in corpora
        ],
        "stages": {
            stage: {
                "data": None if choice.corpus is None else str(choice.corpus.path),
                "others": [str(corpus.path) for corpus in choice.others],
                "lacking": choice.lacking,
                "trained": stage in draft.stages,
            }
            for stage, choice in draft.choices.items()
        },
        "passed_over": dict(scan.others),
        "seconds": {unit: round(seconds, 1) for unit, seconds in estimate.seconds.items()},
        "seconds_unknown": list(estimate.unknown),
    }
