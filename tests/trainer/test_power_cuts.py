"""Power cuts: what was not flushed to the disk is gone, and what was promised before is there all the same.

A disk is imitated that knows, of every file and folder, what it was when it was last flushed. The power goes before a random one of
the calls that touch the disk. What comes back is the worst that a file system may make of that: every folder is as it was when it
was last flushed, or as it was in the end, at random; files hold what they held when they were last flushed, or nothing.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import CONFIG, Recorder, Regression, begun, final

from omnictl.runs.checksums import check_folder
from omnictl.runs.run import Run
from omnictl.runs.weights_file import read_weights
from omnictl.trainer import checkpoint, trainer
from omnictl.trainer.checkpoint import newest_intact_checkpoint, step_of
from omnictl.trainer.loop import train

pytestmark = pytest.mark.faults

CUTS = int(os.environ.get("OMNICTL_FAULTS", "20"))
"""So many; 200 for the figures in docs/reliability.md."""

STEPS = 6


class PowerCut(BaseException):
    """What no code of ours catches."""


class Disk:
    """What a folder would hold if the power went now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[int, dict[str, int]] = {}
        self.files: dict[int, bytes] = {}
        self.pinned: dict[int, int] = {}  # descriptors, so that no number of a file is given again
        self.left = -1
        for path in [root, *root.rglob("*")]:
            self._note(path)

    def _note(self, path: Path) -> None:
        number = path.stat().st_ino
        if path.is_dir():
            self.folders[number] = self._entries(path)
        else:
            self._pin(path)
            self.files[number] = path.read_bytes()

    def _entries(self, folder: Path) -> dict[str, int]:
        for path in folder.iterdir():
            self._pin(path)
        return {path.name: path.stat().st_ino for path in folder.iterdir()}

    def _pin(self, path: Path) -> None:
        number = path.stat().st_ino
        if number not in self.pinned:
            self.pinned[number] = os.open(path, os.O_PATH)

    def flush(self, descriptor: int) -> None:
        self.tick()
        self._note(Path(f"/proc/self/fd/{descriptor}").readlink())

    def tick(self) -> None:
        """A call that touches the disk."""
        self.left -= 1
        if self.left == 0:
            raise PowerCut

    def come_back(self, to: Path, generator: random.Random) -> None:
        """Write down what the disk holds afterwards."""
        now = {path.stat().st_ino: path for path in [self.root, *self.root.rglob("*")]}
        kinds = {number: path.is_dir() for number, path in now.items()}

        def write(number: int, place: Path) -> None:
            if not (kinds.get(number) or number in self.folders):
                place.write_bytes(self.files.get(number, b""))
                return
            place.mkdir()
            entries = self.folders.get(number, {})
            if number in now and generator.random() < 0.5:
                entries = {path.name: path.stat().st_ino for path in now[number].iterdir()}
            for name, entry in entries.items():
                write(entry, place / name)

        write(self.root.stat().st_ino, to)

    def close(self) -> None:
        for descriptor in self.pinned.values():
            os.close(descriptor)


@contextmanager
def watched(disk: Disk, cut_at: int) -> Iterator[None]:
    """Training writes to this disk, and the power goes before a call."""
    disk.left = cut_at

    def ticking(call: Callable[..., Any]) -> Callable[..., Any]:
        def ticked(*args: Any, **kwargs: Any) -> Any:
            disk.tick()
            return call(*args, **kwargs)

        return ticked

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", disk.flush)
        for owner, name in [(Path, "mkdir"), (Path, "replace"), (Path, "unlink"), (shutil, "rmtree"), (checkpoint, "save_file")]:
            patch.setattr(owner, name, ticking(getattr(owner, name)))
        stack.callback(lambda: setattr(disk, "left", -1))
        yield


def go_on(run: Run) -> None:
    train(Regression(), CONFIG.model_copy(update={"steps": STEPS}), run, device=torch.device("cpu"), observer=Recorder())


class Promises:
    """What training has reported as done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.step = 0
        self.model = False
        original_save, original_keep = checkpoint.save_checkpoint, checkpoint.keep_weights

        def save(*args: Any, **kwargs: Any) -> Path:
            folder: Path = original_save(*args, **kwargs)
            self.step = step_of(folder)
            return folder

        def keep(*args: Any) -> None:
            original_keep(*args)
            self.model = True

        patch.setattr(trainer, "save_checkpoint", save)
        patch.setattr(trainer, "keep_weights", keep)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    patch = pytest.MonkeyPatch()
    patch.setattr(trainer, "matmul_rate", lambda device: 1e11)
    run = begun(tmp_path_factory.mktemp("undisturbed"))
    go_on(run)
    patch.undo()
    return final(run)


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_power_cut_takes_nothing_that_was_promised(
    seed: int, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)
    generator = random.Random(seed)
    run = begun(tmp_path / "before")
    promises = Promises(monkeypatch)
    disk = Disk(tmp_path / "before")
    try:
        with watched(disk, generator.randint(1, 130)):
            go_on(run)
    except PowerCut:
        pass
    disk.come_back(tmp_path / "after", generator)
    disk.close()
    back = Run(tmp_path / "after" / run.path.relative_to(tmp_path / "before"))
    warnings: list[str] = []
    newest = newest_intact_checkpoint(back, warnings.append)
    assert (0 if newest is None else step_of(newest)) >= promises.step, warnings
    if promises.model:
        check_folder(back.model)
        read_weights(back.model / "model.safetensors")
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)
    go_on(back)
    assert final(back) == undisturbed
