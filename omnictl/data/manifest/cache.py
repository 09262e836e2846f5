"""The cache: folders that take time to make and are made once, then read by every run that asks for the same.

A folder's name is made of fingerprints of all that went into it, so nothing in the cache ever goes stale. Deleting it costs only
the time to build it again.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import FileLock

from omnictl.errors import DataError, DiskFull
from omnictl.regular_files import open_regular, read_regular

CHECKSUMS = "checksums.json"
"""Beside the files of a folder: the SHA-256 of each."""

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
    content = _read_whole(folder, read)
    if content is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{folder.name}.lock")):
                content = _read_whole(folder, read)
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
        _write_checksums(draft)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    built = read(folder)
    assert built is not None
    return built


def _read_whole(folder: Path, read: Callable[[Path], T | None]) -> T | None:
    """What `read` finds, if all files are as they were written."""
    try:
        expected = json.loads(read_regular(folder / CHECKSUMS))
    except (OSError, ValueError, RecursionError):
        return None
    try:
        checksums = _checksums(folder)
    except OSError:
        return None
    return read(folder) if checksums == expected else None


def _write_checksums(folder: Path) -> None:
    (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder)), encoding="utf-8")


def _checksums(folder: Path) -> dict[str, str]:
    """Of all files at any depth, by their paths within the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path != folder / CHECKSUMS and not path.is_dir())
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in files}


def _checksum(path: Path) -> str:
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _hash(path: Path, *_changes_with_its_content: int) -> str:
    """SHA-256 of a file, computed once a process while the file stays as it is."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
