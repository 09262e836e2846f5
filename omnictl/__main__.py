"""`python -m omnictl`, and the command `omnictl`."""

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit. Before anything is imported, what would end the process without a word is taken care of."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # only a training knows what to do about it
    signal.signal(signal.SIGINT, _leave)
    from omnictl.cli import main as run  # noqa: PLC0415  takes a moment

    run()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End at once: nothing has begun, and an import that is broken off could fail in any way."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
