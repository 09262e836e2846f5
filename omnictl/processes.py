"""This process among those that `torchrun` started together; nothing here needs torch, so that every command can ask."""

import os
import sys
from typing import NoReturn


def number_of_processes() -> int:
    """How many there are; 1 without `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Whether this is the one that tells people what happens."""
    return os.environ.get("RANK", "0") == "0"


def end(code: int) -> NoReturn:
    """Exit; one of several processes at once, as what gloo leaves running may abort an orderly end."""
    if number_of_processes() == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
