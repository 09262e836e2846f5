"""Disks that fill up, turn read-only or are taken away while a run writes: named, nothing lost, and the run goes on afterwards.

The trouble begins before a random one of the calls that touch the disk and lasts until the training has ended. A full disk is a
real one, of a megabyte; a folder that vanishes is really moved; of a read-only disk, the system's refusals are imitated.
"""

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import CONFIG, Recorder, Regression, begun, final

from omnictl.errors import DiskFull, OmniError, RunError
from omnictl.runs.checksums import check_folder
from omnictl.runs.run import Run
from omnictl.trainer import checkpoint
from omnictl.trainer.checkpoint import damage, newest_intact_checkpoint
from omnictl.trainer.loop import train

pytestmark = pytest.mark.faults

FAULTS = int(os.environ.get("OMNICTL_FAULTS", "5"))
"""So many of each kind; 50 for the figures in docs/reliability.md."""

LAST = 5
"""Calls behind the last that writes anything."""

CALLS = [
    (os, "fsync"),
    (os, "rmdir"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
    (shutil, "rmtree"),
    (checkpoint, "save_file"),
]

Call = Callable[..., Any]


class Counter:
    """Counts the calls that touch the disk, and begins the trouble before one of them."""

    def __init__(self, begin_at: int, begin: Callable[[], None]) -> None:
        self.count, self.begin_at, self.begin = 0, begin_at, begin
        self.refuse = False

    def wrap(self, call: Call) -> Call:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.begin_at:
                self.begin()
            if self.refuse:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return call(*args, **kwargs)

        return counted


@contextmanager
def counted(counter: Counter) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, counter.wrap(getattr(owner, name)))
        yield


def go_on(run: Run) -> None:
    train(Regression(), CONFIG, run, device=torch.device("cpu"), observer=Recorder())


def ending(run: Run, counter: Counter) -> OmniError | None:
    """The error that training ended with, once the trouble had begun; None if nothing more was to be written then."""
    with counted(counter):
        try:
            go_on(run)
        except OmniError as error:
            return error
    return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """What a run ends with, and how many calls it took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omnictl.trainer.trainer.matmul_rate", lambda device: 1e11)
        run, counter = begun(tmp_path_factory.mktemp("undisturbed")), Counter(-1, lambda: None)
        with counted(counter):
            go_on(run)
    assert counter.count > 50
    return final(run), counter.count


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root on Linux")
    path = tmp_path / "disk"
    path.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def check_what_is_left(run: Run) -> None:
    """No half-written file is left, and what was whole before still is."""
    assert not list(run.path.rglob(".*.tmp"))
    assert all(damage(folder) is None for folder in run.checkpoints.glob("step-*"))
    newest_intact_checkpoint(run, pytest.fail)
    check_folder(run.model)


def fill(disk: Path) -> None:
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free))


@pytest.mark.parametrize("seed", range(FAULTS))
def test_a_disk_that_fills_up(seed: int, small_disk: Path, undisturbed: tuple[dict[str, bytes], int]) -> None:
    expected, calls = undisturbed
    run = begun(small_disk)
    counter = Counter(random.Random(seed).randint(1, calls), lambda: fill(small_disk))
    error = ending(run, counter)
    if error is None:
        assert final(run) == expected  # what was removed on the way made enough room
    else:
        assert (type(error), error.exit_code) == (DiskFull, 7)
        assert str(run.path) in error.message
        assert "--resume" in error.fix
    (small_disk / "filler").unlink()
    check_what_is_left(run)
    go_on(run)
    assert final(run) == expected


@pytest.mark.parametrize("seed", range(FAULTS))
def test_a_disk_that_turns_read_only(seed: int, tmp_path: Path, undisturbed: tuple[dict[str, bytes], int]) -> None:
    expected, calls = undisturbed
    run = begun(tmp_path)
    counter = Counter(random.Random(seed).randint(1, calls), lambda: setattr(counter, "refuse", True))
    error = ending(run, counter)
    assert error is not None
    assert (type(error), error.exit_code) == (RunError, 4)
    assert "Read-only file system" in error.message
    assert "writable" in error.fix
    go_on(run)  # what could not be removed then is now
    check_what_is_left(run)
    assert final(run) == expected


@pytest.mark.parametrize("seed", range(FAULTS))
def test_a_folder_that_vanishes(seed: int, tmp_path: Path, undisturbed: tuple[dict[str, bytes], int]) -> None:
    expected, calls = undisturbed
    run = begun(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    counter = Counter(random.Random(seed).randint(1, calls), lambda: run.path.rename(elsewhere))
    error = ending(run, counter)
    if error is None:
        assert counter.begin_at > calls - LAST
    else:
        assert error.exit_code == 4
        assert str(run.path) in error.message
        assert "put it back" in error.fix or "made by omnictl" in error.fix
    assert not run.path.exists(), "nothing was written in its place"
    elsewhere.rename(run.path)
    go_on(run)
    check_what_is_left(run)
    assert final(run) == expected


def test_space_is_looked_for_before_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    written: list[Path] = []
    monkeypatch.setattr(checkpoint, "save_file", lambda tensors, path, metadata=None: written.append(path))
    with pytest.raises(DiskFull, match="no space left while writing"):
        checkpoint.save_checkpoint(
            run,
            torch.nn.Linear(9, 9),
            EmptyOptimizers(),
            checkpoint.TrainState(),
            {},
            keep=1,  # type: ignore[arg-type]
        )
    assert written == []


class EmptyOptimizers:
    """Without moments."""

    def state_tensors(self) -> dict[str, torch.Tensor]:
        return {}
