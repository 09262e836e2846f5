"""Durable, all-or-nothing files: written beside their place, flushed to the disk, then renamed over it."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnictl.errors import DiskFull, OmniError, RunError
from omnictl.regular_files import is_special, read_regular


def os_error(error: OSError, path: Path) -> OmniError | None:
    """The named error behind a failed write below `path`, None if it is nothing a user can cause."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(_nearest_existing(path)).free
        return DiskFull(
            f"no space left while writing {path} ({free / 2**20:.0f} MiB free)",
            where=str(path),
            fix="free some space, or put the runs elsewhere with --runs DIR, then go on with --resume",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunError(
            f"cannot write to {path}: {os.strerror(error.errno)}",
            where=str(path),
            fix="make the folder writable, or choose another with --runs DIR",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return RunError(
            f"cannot create a folder at {path}: {os.strerror(error.errno)}",
            where=str(path),
            fix="choose another folder with --runs DIR; if it was moved away, put it back and go on with --resume",
        )
    if error.errno == errno.EISDIR:
        place = error.filename2 or error.filename or path
        return RunError(f"{place} is a folder, a file was to be written there", where=str(path), fix=f"move it away: {place}")
    return None


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into named errors.

    Raises:
        DiskFull: no space left.
        RunError: the folder is read-only.
    """
    try:
        yield
    except OSError as error:
        named = os_error(error, path)
        if named is None:
            raise
        raise named from error


def sync_file(path: Path) -> None:
    """Flush a file's contents to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


sync_dir = sync_file
"""Flush a directory's entries to the disk (the same call on POSIX)."""


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`; raises as `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, durably and in one step.

    Raises:
        DiskFull: no space left.
        RunError: the folder is read-only, or there is something that is no file.
    """
    draft = path.with_name(f".{path.name}.tmp")
    if is_special(path):
        raise RunError(f"{path} is a pipe or a device, not a file", where=str(path), fix="name a file, or move it away")
    with writing(path):
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_dir(path.parent)
        finally:
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Replace `path` by `value` as indented JSON; raises as `write_text`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`.

    Raises:
        RunError: it is missing, no regular file, far too large, or not JSON.
    """
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"cannot read {path}: {error}", where=str(path), fix="check that the path is a run made by omnictl"
        ) from error
