"""Finds runs that fit together: those of the same kind of data."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from omnictl.errors import RunError
from omnictl.runs.files import read_json
from omnictl.runs.run import Run, list_runs


class CompatibleRun(NamedTuple):
    """The newest run that fits, if any, and the newer ones that do not, each with the reason."""

    run: Run | None
    rejected: list[str]


def newest_compatible(root: Path, stage: str, source: str) -> CompatibleRun:
    """The newest finished run of a stage that was trained on the same kind of data.

    Args:
        root: the folder of all runs.
        stage: whose runs.
        source: `data.source` of what it must fit; every draw of TinyWorld is the same kind.
    """
    rejected: list[str] = []
    for candidate in list_runs(root, stage):
        flaw = _flaw(candidate, source)
        if flaw is None:
            return CompatibleRun(candidate, rejected)
        rejected.append(f"{candidate.path}: {flaw}")
    return CompatibleRun(None, rejected)


def require_run(root: Path, stage: str, source: str, tell: Callable[[str], None], *, where: str, fix: str) -> Run:
    """The run that `newest_compatible` finds.

    Args:
        root: the folder of all runs.
        stage: whose runs.
        source: the data that it must fit.
        tell: is told which newer runs do not fit, and why.
        where: who asks for it, for the error.
        fix: what to do if there is none.

    Raises:
        RunError: there is none.
    """
    run, rejected = newest_compatible(root, stage, source)
    if run is None:
        reasons = "".join(f"\n  {line}" for line in rejected)
        raise RunError(
            f"this needs a finished run of stage `{stage}` on {source}, {root / stage} has none{reasons}", where=where, fix=fix
        )
    for line in rejected:
        tell(f"not taken: {line}")
    return run


def data_source(run: Run) -> str:
    """What a run was trained on; of one that holds a Talker, what that was."""
    talker = run.model / "talker" / "config.json"
    if talker.is_file():
        return str(read_json(talker)["config"]["data"]["source"])
    return str(read_json(run.config_file)["data"]["source"])


def _flaw(candidate: Run, source: str) -> str | None:
    status = candidate.record()["status"]
    if status != "finished":
        return f"it is {status}"
    trained_on = data_source(candidate)
    return None if _kind(trained_on) == _kind(source) else f"it was trained on {trained_on}, not {source}"


def _kind(source: str) -> str:
    word = source.partition(":")[0]
    return word if word == "tinyworld" else str(Path(source).absolute())
