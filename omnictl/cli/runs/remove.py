"""`omnictl runs rm` and `prune`: remove runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_run
from omnictl.cli.console import Output
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.errors import UsageError
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omnictl.runs.run import Run

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")]


def rm(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="STAGE/FOLDER, a path or a name.", autocompletion=complete_run, show_default=False),
    ],
    yes: YesOption = False,
    force: Annotated[bool, typer.Option("--force", help="Even if other runs are made from it.")] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove runs for good. One that is being trained, or that others are made from, is refused."""
    from omnictl.runs.catalogue import find_any_run
    from omnictl.runs.removal import check_removable

    root = run_root(runs)
    found = list(dict.fromkeys(find_any_run(root, name) for name in names))
    if not force:
        for run in found:
            check_removable(run, found, root)
    _remove(found, Output(as_json=as_json), confirmed=yes, kept={})


def prune(
    stage: Annotated[str | None, typer.Option(help="Only runs of this stage.", show_default=False)] = None,
    keep: Annotated[int, typer.Option(min=0, help="So many of the newest finished runs of each stage and data stay.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove; without it, nothing is removed.")] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which runs nobody needs and what removing them frees; with --yes remove them.

    Stays: of each stage and data the best run and the newest finished ones, of
    each stage the newest run, what is being trained, and all parents of these.
    """
    from omnictl.runs.removal import plan_pruning

    output, root = Output(as_json=as_json), run_root(runs)
    plan = plan_pruning(root, stage, newest=keep)
    kept = {_place(run): reason for run, reason in plan.keep.items()}
    for place, reason in kept.items():
        output.say(f"[green]keep[/green]   {escape(place)}: {escape(reason)}")
    if yes or not plan.remove:
        _remove(plan.remove, output, confirmed=True, kept=kept)
        return
    lines = [f"[red]remove[/red] {escape(place)}: {size / 1e6:,.1f} MB" for place, size in _sizes(plan.remove).items()]
    value = {"removed": [], "would_remove": _sizes(plan.remove), "would_free_bytes": plan.bytes, "kept": kept}
    again = f"omnictl runs prune --yes{'' if stage is None else f' --stage {stage}'}{'' if keep == 1 else f' --keep {keep}'}"
    lines += [f"that would free {plan.bytes / 1e6:,.1f} MB; nothing is removed yet", f"next\n  {again}{_elsewhere(runs)}"]
    output.result(value, "\n".join(lines))


def _remove(found: "Sequence[Run]", output: Output, *, confirmed: bool, kept: dict[str, str]) -> None:
    """Remove runs, if that is what the user wants.

    Raises:
        UsageError: nobody is there to be asked.
        RunError: one of them is being written to, or cannot be removed.
    """
    from omnictl.runs.removal import remove_run

    sizes = _sizes(found)
    total = sum(sizes.values())
    if not confirmed:
        if output.as_json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked whether to remove", where="rm", fix="give --yes to remove without being asked")
        for place, size in sizes.items():
            output.say(f"[red]remove[/red] {escape(place)}: {size / 1e6:,.1f} MB")
        if not typer.confirm("Remove for good?"):
            output.result({"removed": [], "freed_bytes": 0}, "nothing is removed")
            return
    for run in found:
        remove_run(run)
    text = f"removed {len(found)} runs, {total / 1e6:,.1f} MB are free again" if found else "nothing to remove"
    output.result({"removed": list(sizes), "freed_bytes": total, "kept": kept}, text)


def _sizes(found: "Sequence[Run]") -> dict[str, int]:
    from omnictl.runs.catalogue import disk_bytes

    return {_place(run): disk_bytes(run) for run in found}


def _place(run: "Run") -> str:
    return f"{run.path.parent.name}/{run.path.name}"


def _elsewhere(runs: Path | None) -> str:
    return "" if runs is None else f" --runs {runs}"
