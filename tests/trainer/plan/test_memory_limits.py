"""Real limits: what a step was planned to take is neither less nor much more than it takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from limited import limit_file

SCRIPT = Path(__file__).parents[1] / "limited.py"
KILLED = -9


def can_limit() -> bool:
    """Whether this process may make control groups."""
    limit = limit_file()
    return limit is not None and os.access(limit.parent, os.W_OK) and os.geteuid() == 0


def train_within(factor: float, stage: str) -> int:
    path = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parent.parent)])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen([sys.executable, str(SCRIPT), stage, "tiny", str(factor)], env=environment) as process:
        code = process.wait()
    (limit_file().parent / f"limited_{process.pid}").rmdir()
    return code


@pytest.mark.faults
@pytest.mark.skipif(not can_limit(), reason="control groups for memory cannot be made here")
@pytest.mark.parametrize("stage", ["pretrain", "aligner"])
def test_a_fifth_more_than_the_plan_is_enough_and_three_fifths_are_not(stage: str) -> None:
    assert train_within(1.2, stage) == 0
    assert train_within(0.6, stage) == KILLED
