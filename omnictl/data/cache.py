"""The cache: folders that take time to make and are made once, then read by every run that asks for the same.

A folder's name is made of fingerprints of all that went into it, so nothing in the cache ever goes stale. Deleting it costs only
the time to build it again.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import FileLock

from omnictl.errors import DataError, DiskFull

T = TypeVar("T")


def cache_dir() -> Path:
    """The cache folder: `$OMNICTL_CACHE`, else `$XDG_CACHE_HOME/omnictl`, else `~/.cache/omnictl`."""
    if chosen := os.environ.get("OMNICTL_CACHE"):
        return Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "omnictl"


def read_or_build(folder: Path, read: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    """What `read` finds in a folder of the cache, after `write` has filled it if it is missing or damaged.

    Two processes may ask at once: one builds, the other waits and reads. A build that dies leaves nothing that is read.

    Args:
        folder: the folder, some levels below the cache.
        read: takes the folder, returns its content or None if that is not whole.
        write: takes a new empty folder and fills it.

    Raises:
        DataError: the cache cannot be written.
        DiskFull: no space left for it; what was written is removed.
    """
    content = read(folder)
    if content is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                content = read(folder)
                if content is None:
                    content = _build(folder, read, write)
        except OSError as error:
            raise explain_os_error(error, folder.parent) from error
    return content


def _build(folder: Path, read: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a build that was killed
    try:
        draft.mkdir()
        write(draft)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    built = read(folder)
    assert built is not None
    return built


def flush(file: IO[Any]) -> None:
    """Force a file's content onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def explain_os_error(error: OSError, cache: Path) -> DataError | DiskFull:
    """The named error for a cache that cannot be written."""
    elsewhere = "choose another cache folder with the environment variable OMNICTL_CACHE"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left for the cache in {cache}", where=str(cache), fix=f"free some space, or {elsewhere}")
    return DataError(
        f"cannot write the cache in {cache}: {error.strerror}",
        where=str(cache),
        fix=f"make the folder writable, or {elsewhere}",
    )
