"""Files that strangers hand over: opened only if they are regular, and read only up to a size.

A pipe would block, a device has no end, and a sparse file of a terabyte takes no room on the disk. All three are refused with an
`OSError` whose `strerror` says what was found, so that whoever reads a file words its refusal as for any other.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MIB = 2**20

MAX_DESCRIPTION = 64 * MIB
"""Bytes of a config, a record or a tokenizer."""


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes.

    Raises:
        OSError: the system refuses, or it is a folder, a pipe, a socket or a device.
    """
    _refuse_special(path, path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _refuse_special(path, os.fstat(descriptor).st_mode)  # it may have been exchanged
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int = MAX_DESCRIPTION) -> bytes:
    """All bytes of a file.

    Args:
        path: of the file.
        most: so many bytes are read; a longer file is refused.

    Raises:
        OSError: as `open_regular`, or it is longer.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(most + 1)
    if size > most or len(data) > most:
        raise OSError(errno.EFBIG, f"it has {max(size, len(data)):,} bytes, at most {most // MIB:,} MiB are read", str(path))
    return data


def is_special(path: Path) -> bool:
    """Whether there is something at a path that is neither a regular file nor a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _refuse_special(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))
