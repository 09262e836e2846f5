"""Where runs are."""

import os
from pathlib import Path


def run_root(given: Path | None) -> Path:
    """The folder of all runs: the one given, else `$OMNICTL_RUNS`, else `./runs`."""
    return given or Path(os.environ.get("OMNICTL_RUNS") or "runs")
