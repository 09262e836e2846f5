"""The feed: whoever makes the batches, they are the same and come in the same order."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from omnictl.trainer.loader import Feed, micro_batches

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core

BATCH = 7
STEPS = 4


class Numbered:
    """A batch is the ids of its examples, the process that made it, and what a generator seeded by them draws."""

    def ids(self, step: int) -> Sequence[int]:
        return range(step * BATCH, (step + 1) * BATCH)

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(ids[0])
        return {
            "ids": torch.tensor(list(ids)),
            "noise": torch.rand(3, generator=generator),
            "process": torch.tensor(os.getpid()),
            "made_at": torch.tensor(time.time(), dtype=torch.float64),
        }

    @property
    def typical_step(self) -> int:
        return 0

    def largest(self, size: int) -> Sequence[int]:
        return range(size)


class Slow(Numbered):
    """Batches of even first ids take longer than the others: workers finish out of order."""

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        time.sleep(0.02 if ids[0] % 2 == 0 else 0)
        return super().collate(ids)


def made(feed: Feed, first_step: int) -> list[list[dict[str, Tensor]]]:
    """The micro-batches of some steps."""
    return [list(feed.step(step)) for step in range(first_step, first_step + STEPS)]


def without_process(steps: list[list[dict[str, Tensor]]]) -> list[list[tuple[list[int], list[float]]]]:
    return [[(batch["ids"].tolist(), batch["noise"].tolist()) for batch in step] for step in steps]


@contextmanager
def feeding(batches: Numbered, *, micro_batch: int = BATCH, first_step: int = 0, workers: int = 2) -> Iterator[Feed]:
    feed = Feed(batches, micro_batch=micro_batch, first_step=first_step, workers=workers)
    try:
        yield feed
    finally:
        feed.close()
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize("micro_batch", [1, 3, 7, 20])
@pytest.mark.parametrize("first_step", [0, 5])
def test_batches_come_in_order_and_split(micro_batch: int, first_step: int) -> None:
    with feeding(Numbered(), micro_batch=micro_batch, first_step=first_step, workers=0) as feed:
        steps = made(feed, first_step)
    for number, step in enumerate(steps, first_step):
        assert torch.cat([batch["ids"] for batch in step]).tolist() == list(Numbered().ids(number))
        assert [len(batch["ids"]) for batch in step] == [len(ids) for ids in micro_batches(range(BATCH), micro_batch)]


@pytest.mark.parametrize(("micro_batch", "first_step"), [(7, 0), (3, 5)])
def test_workers_change_nothing(micro_batch: int, first_step: int) -> None:
    found = []
    for workers in (0, 2):
        with feeding(Slow(), micro_batch=micro_batch, first_step=first_step, workers=workers) as feed:
            found.append(made(feed, first_step))
    assert without_process(found[0]) == without_process(found[1])
    here, elsewhere = ({int(batch["process"]) for step in each for batch in step} for each in found)
    assert here == {os.getpid()}
    assert len(elsewhere) == 2
    assert os.getpid() not in elsewhere


@pytest.mark.parametrize("workers", [0, 2])
def test_a_feed_leaves_the_generator_of_training_alone(workers: int) -> None:
    """Its state is part of a checkpoint, and a resume makes a feed anew."""
    before = torch.get_rng_state()
    with feeding(Numbered(), micro_batch=4, workers=workers) as feed:
        made(feed, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_made_ahead() -> None:
    with feeding(Numbered()) as feed:
        list(feed.step(0))
        time.sleep(0.5)
        asked_at = time.time()
        assert float(next(feed.step(1))["made_at"]) < asked_at


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_leave_signals_to_the_process_that_trains(number: signal.Signals) -> None:
    """A terminal and a scheduler send them to all; the step that is being taken still needs its batches."""
    with feeding(Slow(), micro_batch=1) as feed:
        list(feed.step(0))
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, number)
        time.sleep(0.05)
        assert [batch["ids"].tolist() for batch in feed.step(1)] == [[BATCH + n] for n in range(BATCH)]


class Broken(Numbered):
    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        if 9 in ids:
            raise ValueError("example 9 is broken")
        return super().collate(ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_up_with_its_batch(workers: int) -> None:
    with feeding(Broken(), workers=workers) as feed:
        assert len(list(feed.step(0))) == 1
        with pytest.raises(ValueError, match="example 9 is broken"):
            list(feed.step(1))


def test_workers_end_with_the_last_reference_too() -> None:
    """And not when the collector of cycles comes by, which closes their queues first and waits ten seconds for them."""
    gc.disable()
    try:
        feed = Feed(Numbered(), micro_batch=BATCH, first_step=0, workers=2)
        list(feed.step(0))
        assert len(multiprocessing.active_children()) == 2
        del feed
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


@pytest.mark.faults
def test_an_error_that_nobody_handles_ends_the_process() -> None:
    script = (
        "from test_loader import Broken, feeding\n"
        "with feeding(Broken()) as feed:\n"
        "    for step in range(5):\n"
        "        list(feed.step(step))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 1
    assert "example 9 is broken" in child.stderr


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
def test_workers_of_a_killed_training_end() -> None:
    """Also where a fork server would be the default, as from Python 3.14 on: with its parent alive a worker waits for ever."""
    script = (
        "import multiprocessing, time\n"
        "from torch.utils.data._utils import worker\n"
        "from test_loader import Feed, Numbered\n"
        "worker.MP_STATUS_CHECK_INTERVAL = 0.2\n"
        "multiprocessing.set_start_method('forkserver')\n"
        "feed = Feed(Numbered(), micro_batch=7, first_step=0, workers=2)\n"
        "list(feed.step(0))\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        workers = [int(word) for word in training.stdout.readline().split()]
        assert [is_alive(worker) for worker in workers] == [True, True]
        training.kill()
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))
