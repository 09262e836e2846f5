"""Processes that die at random, by themselves inside a save or from outside: forked from a server that has torch imported."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

KILLS = int(os.environ.get("OMNICTL_FAULTS", "20"))
"""So many at most, over all stages; 200 for the figures in docs/reliability.md."""

CALLS_OF_A_SAVE = 24
"""Roughly how many calls of one save touch the disk."""


class Ended(NamedTuple):
    """How a process ended."""

    exit_code: int
    seconds: float  # from when it said that it was ready

    @property
    def killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


def kill_server(*modules: str) -> Any:
    """A context whose processes start with these modules and torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["omnictl.trainer.loop", "omnictl.trainer.trainer", "torch._dynamo", *modules])
    return context


def run_child(
    server: Any,
    target: Callable[..., None],
    *arguments: object,
    kill_at: int | None = None,
    kill_after: float | None = None,
    threads: int = 1,
) -> Ended:
    """A process that does this, killed before the `kill_at`-th call within its saves, or so many seconds after it is ready.

    `target` is given the arguments and a call that says it is ready.
    """
    receiver, sender = server.Pipe(duplex=False)
    process = server.Process(target=_begin, args=(target, arguments, kill_at, threads, sender))
    process.start()
    sender.close()
    receiver.recv()
    began = time.monotonic()
    process.join(kill_after)
    process.kill()
    process.join()
    return Ended(process.exitcode, time.monotonic() - began)


def _begin(target: Callable[..., None], arguments: Sequence[object], kill_at: int | None, threads: int, pipe: Connection) -> None:
    import torch

    from omnictl.trainer import trainer

    torch.set_num_threads(threads)
    vars(os)["fsync"] = os.fstat  # what is killed loses nothing that it has written; power cuts are another test's
    vars(trainer)["matmul_rate"] = lambda device: 1e11  # timing it takes longer than an attempt
    if kill_at is not None:
        die_within_a_save(kill_at)
    target(*arguments, lambda: pipe.send("ready"))


def die_within_a_save(at: int) -> None:
    """Count the calls that touch the disk within saves, and die before the `at`-th."""
    from omnictl.trainer import checkpoint, trainer

    count = 0
    inside = False

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += inside
            if inside and count == at:
                if call is save_file:  # leave half of the file behind
                    call(*args, **kwargs)
                    os.truncate(args[1], args[1].stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    def save(*args: Any, **kwargs: Any) -> Path:
        nonlocal inside
        inside = True
        folder: Path = save_checkpoint(*args, **kwargs)
        inside = False
        return folder

    save_checkpoint, save_file = vars(trainer)["save_checkpoint"], vars(checkpoint)["save_file"]
    vars(trainer)["save_checkpoint"] = save
    vars(checkpoint)["save_file"] = counted(save_file)
    for owner, name in [(os, "fsync"), (os, "rmdir"), (Path, "mkdir"), (Path, "replace"), (Path, "unlink"), (shutil, "rmtree")]:
        setattr(owner, name, counted(getattr(owner, name)))
