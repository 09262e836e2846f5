"""What is left of a training that was killed with its workers: no process, no shared memory, no temporary file."""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import Recorder, Regression, changed, new_run

from omnictl.runs.run import Run
from omnictl.trainer import trainer
from omnictl.trainer.loop import train

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc to look for processes in"),
]

KILLS = int(os.environ.get("OMNICTL_FAULTS", "3"))
"""So many; 200 for the figures in docs/reliability.md."""

LONGEST = 0.5
"""Seconds until a kill, after the first step."""

PATIENCE = 60.0
"""Seconds in which workers must have ended, on a machine that is busy with other things."""

SHARED_MEMORY = Path("/dev/shm")


class Teller(Recorder):
    """Tells of the first step that is taken."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe
        self.told = False

    def step(self, record: Any) -> None:
        if not self.told:
            self.told = True
            self.pipe.send("begun")


def attempt(path: Path, temporary: Path, pipe: Connection) -> None:
    """In a child, which leads a session of its own: train with workers until killed."""
    from torch.utils.data._utils import worker

    os.setsid()
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    worker.MP_STATUS_CHECK_INTERVAL = 0.2  # in which a worker looks for its parent
    vars(trainer)["matmul_rate"] = lambda device: 1e11
    torch.set_num_threads(1)
    config = changed(steps=1_000_000, eval_every=50, save_every=10)
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"workers": 2})})
    train(Regression(), config, Run(path), device=torch.device("cpu"), observer=Teller(pipe))


def members(session: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.add(int(stat.parent.name))
    return found


def shared() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


def of(names: set[str], processes: set[int]) -> set[str]:
    """The shared memory among these that torch made in one of the processes: its name has their number."""
    return {name for name in names if any(f"_{process}_" in name for process in processes)}


def test_nothing_outlives_a_killed_training(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "omnictl.trainer.loop", "omnictl.pipeline.time_budget.budget", "torch._dynamo"])
    generator = random.Random(0)
    run = new_run(tmp_path / "runs", Regression())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for number in range(KILLS):
        receiver, sender = context.Pipe(duplex=False)
        child: Any = context.Process(target=attempt, args=(run.path, temporary, sender))
        child.start()
        try:
            sender.close()
            assert receiver.poll(PATIENCE), f"kill {number}: it did not begin"
            receiver.recv()
            time.sleep(generator.uniform(0, LONGEST))
            processes = members(child.pid)
        finally:
            child.kill()
            child.join()
        assert child.exitcode == -signal.SIGKILL
        assert len(processes) == 3, f"kill {number}: training and two workers, {processes}"
        deadline = time.monotonic() + PATIENCE
        while members(child.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert members(child.pid) == set(), f"kill {number}: workers outlived it"
        assert of(shared(), processes) == set(), f"kill {number}"
        assert list(temporary.iterdir()) == [], f"kill {number}"
        with run.lock():  # and it is free at once
            pass
