"""Removing runs: one that nobody needs, or all but the best, the newest and what these are made from."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from omnictl.errors import RunError
from omnictl.runs.catalogue import RunSummary, children, disk_bytes, is_trained_now, parents_of, read_catalogue, summarise_all
from omnictl.runs.files import writing
from omnictl.runs.run import Run


class Pruning(NamedTuple):
    """What a pruning removes, and why it keeps the rest."""

    remove: list[Run]
    keep: dict[Run, str]
    """With the reason."""

    @property
    def bytes(self) -> int:
        """That it frees."""
        return sum(map(disk_bytes, self.remove))


def plan_pruning(root: Path, stage: str | None, *, newest: int) -> Pruning:
    """Decide what to remove; nothing is removed yet.

    Kept are, of each stage and data, the best run and the newest finished ones; of each stage the newest run, which may be resumed;
    what is being trained, or cannot be read; and whatever the kept ones are made from.

    Args:
        root: the folder of all runs.
        stage: only runs of this stage are removed; None: of all.
        newest: so many finished runs of each stage and data are kept.
    """
    summaries, unreadable = summarise_all(read_catalogue(root.absolute()).runs)
    keep = dict.fromkeys(unreadable, "it cannot be read; `omnictl runs verify` says why")
    for summary in summaries:
        if summary.status == "running":
            keep[summary.run] = "it is being trained"
    for stage_name in dict.fromkeys(summary.stage for summary in summaries):
        of_stage = [summary for summary in summaries if summary.stage == stage_name]
        keep.setdefault(of_stage[0].run, "the newest of its stage")
        for source in dict.fromkeys(summary.data for summary in of_stage):
            _keep_of_one_kind([summary for summary in of_stage if summary.data == source], newest, keep)
    _keep_parents(keep)
    removable = [summary.run for summary in summaries if stage is None or summary.stage == stage]
    return Pruning([run for run in removable if run not in keep], keep)


def _keep_of_one_kind(summaries: Sequence[RunSummary], newest: int, keep: dict[Run, str]) -> None:
    """Note which runs of one stage on the same data are kept."""
    finished = [summary for summary in summaries if summary.status == "finished"]
    for summary in finished[:newest]:
        keep.setdefault(summary.run, "finished lately")
    judged = [summary for summary in summaries if summary.score is not None]
    for metric in dict.fromkeys((summary.score.name, summary.score.source) for summary in judged if summary.score):
        alike = [one for one in judged if one.score is not None and (one.score.name, one.score.source) == metric]
        for unclear in (one for one in alike if one.score is not None and one.score.goodness is None and len(alike) > 1):
            keep.setdefault(unclear.run, f"its {metric[0]} cannot be compared")
        rated = [(one.score.goodness, one) for one in alike if one.score is not None and one.score.goodness is not None]
        if rated:
            best = max(rated, key=lambda item: item[0])[1]
            keep.setdefault(best.run, f"the best {metric[0]} on {metric[1]}")


def _keep_parents(keep: dict[Run, str]) -> None:
    """Keep what the kept runs are made from, and so on."""
    waiting = list(keep)
    while waiting:
        run = waiting.pop()
        with suppress(RunError):  # its record is damaged: nobody can tell what it is made from
            for parent in parents_of(run).values():
                if parent not in keep:
                    keep[parent] = f"{run.stage}/{run.path.name} is made from it"
                    waiting.append(parent)


def check_removable(run: Run, removed: Sequence[Run], root: Path) -> None:
    """Refuse to remove a run that is being trained, or that others are made from.

    Args:
        run: to be removed.
        removed: all that are removed together.
        root: a folder of runs that may be made from it, as may those beside it.

    Raises:
        RunError: it is being trained, or another run names it as a parent.
    """
    if is_trained_now(run):
        raise RunError(f"{run.path} is being trained", where=str(run.path), fix="stop the training first, or wait for its end")
    leaving = {one.path.absolute() for one in removed}
    others = [other for place in dict.fromkeys((run.root, root.absolute())) for other in read_catalogue(place).runs]
    needed_by = children(others).get(run.path.absolute(), [])
    left = list(dict.fromkeys(f"{child.stage}/{child.path.name}" for child in needed_by if child.path not in leaving))
    if left:
        raise RunError(
            f"{run.path} is a parent of {', '.join(left)}",
            where=str(run.path),
            fix=f"remove {'that' if len(left) == 1 else 'those'} too, or use --force: what they hold copies of goes on working",
        )


def remove_run(run: Run) -> None:
    """Remove a run's folder; its record goes first, so that a kill leaves no half a run.

    Raises:
        RunError: another process writes to it, or the folder is read-only.
    """
    with run.lock(), writing(run.path):
        (run.path / "run.json").unlink()
    with writing(run.path):
        shutil.rmtree(run.path)
