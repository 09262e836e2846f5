"""Signals while training: SIGINT and SIGTERM end the run after saving, SIGUSR1 saves and goes on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnictl.trainer.distributed.process_group import ProcessGroup


@dataclass
class Requests:
    """What signals have asked for since the loop last looked."""

    stop: signal.Signals | None = None
    save: bool = False

    def of_all(self, group: "ProcessGroup") -> "Requests":
        """What any process of a group has been asked for since the last call; to stop, ever."""
        save, self.save = self.save, False
        all_requests = group.gather((self.stop, save))
        return Requests(next((stop for stop, _ in all_requests if stop), None), any(save for _, save in all_requests))

    @property
    def exit_code(self) -> int:
        """128 + the number of the stopping signal, 0 without one."""
        return 128 + self.stop if self.stop else 0


@contextmanager
def listen_for_signals() -> Iterator[Requests]:
    """Collect signals instead of dying of them. A second SIGINT raises KeyboardInterrupt at once."""
    requests = Requests()

    def on_stop(number: int, _frame: FrameType | None) -> None:
        if requests.stop is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        requests.stop = signal.Signals(number)

    def on_save(_number: int, _frame: FrameType | None) -> None:
        requests.save = True

    handlers = {signal.SIGINT: on_stop, signal.SIGTERM: on_stop, signal.SIGUSR1: on_save}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
