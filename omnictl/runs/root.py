"""The folder of all runs."""

import os
from pathlib import Path


def run_root(path: Path | None) -> Path:
    """The folder of all runs: the one given, else `$OMNICTL_RUNS`, else `./runs`."""
    return path or Path(os.environ.get("OMNICTL_RUNS") or "runs")
