"""`python -m omnictl`, and the command `omnictl`."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit. Before anything is imported, what would end the process without a word is taken care of."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # only a training knows what to do about it
    try:
        from omnictl.cli import main as run  # noqa: PLC0415  takes a moment
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
