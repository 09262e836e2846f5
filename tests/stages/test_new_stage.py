"""A stage is added by one file and one entry: all commands know it then."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import omnictl

COMMANDS = """
from omnictl.stages import STAGES, StageEntry

STAGES["straight_line"] = StageEntry("straight_line", "Fit a straight line.")

if __name__ == "__main__":  # not in the processes that plan and measure, which read this file, too
    import json
    import sys

    from omnictl.cli.app import run

    for arguments in json.loads(sys.argv[1]):
        assert run([*arguments, "--json"]) == 0, arguments
"""
"""Adds the stage as an entry in `omnictl/stages/__init__.py` would, and runs commands."""


def run_commands(folder: Path, *commands: str) -> list[Any]:
    """What each of them prints."""
    (folder / "added.py").write_text(COMMANDS, encoding="utf-8")
    paths = [str(Path(omnictl.__file__).parents[1]), str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMNICTL_RUNS": str(folder / "runs")}
    arguments = [words.split() for words in commands]
    done = subprocess.run(
        [sys.executable, "added.py", json.dumps(arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_one_file_and_one_entry_add_a_stage(tmp_path: Path) -> None:
    trained, judged, everything, again, planned, timed = run_commands(
        tmp_path,
        "straight_line --preset debug --name first",
        "eval straight_line",
        "eval all",
        "straight_line --preset debug --init latest --max-steps 2",
        "plan straight_line --preset debug",
        "bench --preset debug --only straight_line --steps 2",
    )
    assert trained["status"] == "finished"
    assert trained["headline"]["value"] < 0.5
    assert again["steps"] == 2
    assert judged["verdict"]["word"] == "learned"
    assert [row["stage"] for row in everything["stages"]] == ["straight_line"]
    assert planned["stages"][0]["parameters"] == 2
    assert timed["stages"][0]["unit"] == "points"
    page = next(tmp_path.glob("runs/straight_line/*first/report.html"))
    assert "straight_line" in page.read_text(encoding="utf-8")
