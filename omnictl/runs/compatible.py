"""Which runs fit together: those of the same kind of data."""

from pathlib import Path
from typing import NamedTuple

from omnictl.runs.files import read_json
from omnictl.runs.run import Run, list_runs


class Found(NamedTuple):
    """The newest run that fits, if any, and the newer ones that do not, each with the reason."""

    run: Run | None
    rejected: list[str]


def newest_compatible(root: Path, stage: str, source: str) -> Found:
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
            return Found(candidate, rejected)
        rejected.append(f"{candidate.path}: {flaw}")
    return Found(None, rejected)


def data_source(run: Run) -> str:
    """What a run was trained on."""
    return str(read_json(run.config_file)["data"]["source"])


def _flaw(candidate: Run, source: str) -> str | None:
    status = candidate.record()["status"]
    if status != "finished":
        return f"it is {status}"
    found = data_source(candidate)
    return None if _kind(found) == _kind(source) else f"it was trained on {found}, not {source}"


def _kind(source: str) -> str:
    return source.partition(":")[0] if source.startswith("tinyworld") else str(Path(source).absolute())
