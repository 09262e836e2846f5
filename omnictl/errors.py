"""Everything a user can cause, as named errors; each carries what was found, what was expected and how to fix it.

    OmniError
    ├── UsageError        2   a flag or an argument
    ├── ConfigError       2   a preset, a config file or a --set
    ├── DataError         3   a corpus, a manifest, a media file
    ├── RunError          4   a run directory: missing, busy, not compatible
    │   ├── CheckpointError   a checkpoint or model folder: corrupt or foreign
    │   └── ExportError       an export that does not agree with its run
    ├── OutOfMemory       5   the step does not fit
    ├── Diverged          6   a loss or a gradient that is not finite
    ├── DiskFull          7   no space left while something was written
    └── MachineFault      8   software or machine on which nothing can be trained

Our own bugs are plain exceptions and exit with 1. An interrupt exits with 130, a termination with 143, both after saving.
"""

from collections.abc import Callable
from typing import ClassVar


class OmniError(Exception):
    """An error with its fix.

    Args:
        message: what was found and what was expected, a sentence or several lines.
        fix: what to do about it: a flag, a key, a command.
        where: `file`, `file:line`, a key or a flag.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, fix: str, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.where = where

    def __reduce__(self) -> tuple[Callable[..., "OmniError"], tuple[type["OmniError"], str, str, str | None]]:
        """As it crosses from one process to another: plain exceptions forget what is given by name."""
        return _again, (type(self), self.message, self.fix, self.where)


def _again(kind: type[OmniError], message: str, fix: str, where: str | None) -> OmniError:
    return kind(message, fix=fix, where=where)


class UsageError(OmniError):
    """A flag or an argument that cannot be taken."""

    kind = "usage"
    exit_code = 2


class ConfigError(OmniError):
    """A preset, config file or `--set` that does not validate."""

    kind = "config"
    exit_code = 2


class DataError(OmniError):
    """Data that cannot be read or does not suit the config."""

    kind = "data"
    exit_code = 3


class RunError(OmniError):
    """A run directory that is missing, busy or not compatible."""

    kind = "run"
    exit_code = 4


class CheckpointError(RunError):
    """A checkpoint or model folder that is corrupt or not ours."""

    kind = "checkpoint"


class ExportError(RunError):
    """An export that does not agree with the run it was made of."""

    kind = "export"


class OutOfMemory(OmniError):
    """A training step that does not fit into memory."""

    kind = "memory"
    exit_code = 5


class Diverged(OmniError):
    """A loss or gradient that is not finite."""

    kind = "diverged"
    exit_code = 6

    def within(self, part: str) -> None:
        """Name the settings of the fix as those of a part of a larger config."""
        self.fix = self.fix.replace("--set ", f"--set {part}.")


class DiskFull(OmniError):
    """No space left on the device while something was written."""

    kind = "disk"
    exit_code = 7


class MachineFault(OmniError):
    """Software that does not fit together, or a machine on which nothing can be trained."""

    kind = "machine"
    exit_code = 8
