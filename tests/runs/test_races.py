"""Two processes that begin the same thing at the same moment, and processes that are killed while they hold something."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from omnictl.data.manifest.cache import read_or_build
from omnictl.errors import RunError
from omnictl.runs.run import Run, create_run, list_runs

pytestmark = pytest.mark.faults

RACES = int(os.environ.get("OMNICTL_FAULTS", "6"))
"""So many of each kind; 50 for the figures in docs/reliability.md."""

PATIENCE = 120.0
"""Seconds for a process to answer on a busy machine."""


def hold(path: Path, pipe: Connection) -> str:
    """Hold a run until told to let go."""
    try:
        with Run(path).lock():
            pipe.send("held")
            pipe.recv()
            Run(path).update(holder=os.getpid())
        return "released"
    except RunError as error:
        pipe.send(error.message)
        pipe.recv()
        return "refused"


def build(folder: Path, pipe: Connection) -> str:
    """Read a folder of the cache, or build it; says who built it."""

    def write(draft: Path) -> None:
        pipe.send("builds")
        if pipe.recv() == "wait":
            pipe.recv()
        (draft / "content").write_text(str(os.getpid()))

    def read(folder: Path) -> str | None:
        return (folder / "content").read_text()

    return read_or_build(folder, read, write)


def create(root: Path, pipe: Connection) -> str:
    """Make a run of a name."""
    return str(create_run(root, "pretrain", "same", {"maker": os.getpid()}).path)


DEEDS = {"hold": hold, "build": build, "create": create}


def race(pipe: Connection, barrier: Any) -> None:
    """A process that does what it is told, when all are ready."""
    while (task := pipe.recv()) is not None:
        deed, path = task
        barrier.wait(PATIENCE)
        pipe.send(("done", DEEDS[deed](path, pipe)))


class Racer:
    """Such a process, seen from here."""

    def __init__(self, context: Any, barrier: Any) -> None:
        self.pipe, its = context.Pipe()
        self.process = context.Process(target=race, args=(its, barrier))
        self.process.start()
        its.close()

    def answer(self) -> Any:
        assert self.pipe.poll(PATIENCE), "no answer"
        return self.pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "omnictl.runs.run", "omnictl.data.manifest.cache"])
    return context


@pytest.fixture(scope="module")
def racers(context: Any) -> Iterator[list[Racer]]:
    barrier = context.Barrier(2)
    both = [Racer(context, barrier) for _ in range(2)]
    yield both
    for racer in both:
        racer.pipe.send(None)
        racer.process.join(PATIENCE)
        assert racer.process.exitcode == 0


def start(racers: list[Racer], deed: str, path: Path) -> None:
    for racer in racers:
        racer.pipe.send((deed, path))


def test_one_of_two_starters_gets_a_run(racers: list[Racer], tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "x", {})
    for _ in range(RACES):
        start(racers, "hold", run.path)
        first = [racer.answer() for racer in racers]
        assert sorted(first) == [f"another process is writing to {run.path}", "held"]
        for racer in racers:
            racer.pipe.send("go on")
        assert sorted(racer.answer()[1] for racer in racers) == ["refused", "released"]
        holder = racers[first.index("held")].process.pid
        assert run.record()["holder"] == holder
    with run.lock():
        pass


def test_one_of_two_builds_a_folder_of_the_cache_and_both_read_it(racers: list[Racer], tmp_path: Path) -> None:
    for number in range(RACES):
        start(racers, "build", tmp_path / "kind" / str(number))
        waiting, results, builders = {racer.pipe for racer in racers}, list[str](), 0
        while waiting:
            ready = wait(waiting, PATIENCE)
            assert ready, "no answer"
            for pipe in ready:
                answer = pipe.recv()
                if answer == "builds":
                    builders += 1
                    pipe.send("go on")
                else:
                    results.append(answer[1])
                    waiting.remove(pipe)
        assert builders == 1
        assert len(set(results)) == 1
    assert not list(tmp_path.rglob("*.draft"))


def test_two_runs_of_a_name_in_a_second_are_two(racers: list[Racer], tmp_path: Path) -> None:
    for _ in range(RACES):
        start(racers, "create", tmp_path)
        paths = [Path(racer.answer()[1]) for racer in racers]
        assert paths[0] != paths[1]
        assert [Run(path).record()["maker"] for path in paths] == [racer.process.pid for racer in racers]
    assert len(list_runs(tmp_path, "pretrain")) == 2 * RACES


def test_a_killed_holder_leaves_nothing(context: Any, tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "x", {})
    cached = tmp_path / "kind" / "key"
    for _ in range(RACES):
        barrier = context.Barrier(1)
        holder, builder = Racer(context, barrier), Racer(context, barrier)
        start([holder], "hold", run.path)
        assert holder.answer() == "held"
        start([builder], "build", cached)
        assert builder.answer() == "builds"
        builder.pipe.send("wait")
        holder.kill()
        builder.kill()
        with run.lock():
            assert run.record()["status"] == "running"
        assert not cached.exists()

    def write(draft: Path) -> None:
        (draft / "content").write_text("mine")

    assert read_or_build(cached, lambda folder: (folder / "content").read_text(), write) == "mine"
    assert sorted(path.name for path in cached.parent.iterdir() if path.suffix != ".lock") == ["key"]
