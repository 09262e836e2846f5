"""What every test shares: caches and runs in a temporary folder, and the real data where a machine has it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes at once: threads beside them would only get in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="session", autouse=True)
def session_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes to the home folder: runs are below pytest's temporary folder, and so is the cache, one for all workers."""
    patch = pytest.MonkeyPatch()
    base = tmp_path_factory.getbasetemp()
    patch.setenv("OMNICTL_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
    patch.setenv("OMNICTL_RUNS", str(tmp_path_factory.mktemp("runs")))
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """A training of twenty steps flushes a hundred times, and waits longer for the disk than it computes.

    Whether a flush is asked for, and what becomes of one that fails, is for tests that replace `os.fsync` themselves.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", os.fstat)  # which refuses a closed file, too
    yield
    patch.undo()


@pytest.fixture
def test_data() -> Path:
    """The folder of real corpora that `OMNICTL_TEST_DATA` names."""
    folder = os.environ.get("OMNICTL_TEST_DATA")
    if folder is None:
        pytest.skip("OMNICTL_TEST_DATA is not set: it names a folder with text/tinyshakespeare.txt")
    return Path(folder)


@pytest.fixture
def randomise() -> "Callable[[nn.Module], None]":
    """Gives every parameter a random value: some start at zero or one, where much would be equal by accident."""
    import torch

    def fill(model: "nn.Module") -> None:
        generator = torch.Generator().manual_seed(5)
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(centre + 0.15 * values)

    return fill
