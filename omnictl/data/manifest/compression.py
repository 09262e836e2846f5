"""Text files as they are stored: plain, `.gz` or `.zst`, read as a stream, never unpacked to the disk.

gzip is Python's own; Zstandard needs the package `zstandard`, as Python has it only from 3.14 on.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from io import BufferedReader
from pathlib import Path, PurePath
from typing import IO, Any, cast

from omnictl.errors import DataError
from omnictl.regular_files import is_special, open_regular

LONGEST_LINE = 2**27
"""Bytes."""

PACKED_SUFFIXES = (".gz", ".zst")

_ZSTD_BYTES = 2_048
"""That are decompressed at once: what comes out is not bounded, and four bytes can mean 128 KB."""


def plain_suffix(path: PurePath) -> str:
    """What a file's name ends in without its compression, lower case: `.jsonl` of `a.jsonl.gz`."""
    name = PurePath(path.name.lower())
    return PurePath(name.stem).suffix if name.suffix in PACKED_SUFFIXES else name.suffix


def is_packed(path: PurePath) -> bool:
    """Whether its name says that it is compressed."""
    return path.suffix.lower() in PACKED_SUFFIXES


def open_bytes(path: Path) -> BufferedReader:
    """The file, to read bytes from as they are stored.

    Raises:
        DataError: the system refuses, or it is a pipe or a device.
    """
    try:
        return open_regular(path)
    except OSError as error:
        fix = "give the path of a file" if is_special(path) else "make it readable for this user"
        raise DataError(f"cannot read {path}: {error.strerror}", where=str(path), fix=fix) from error


def read_raw_lines(file: BufferedReader, path: Path) -> Iterator[bytes]:
    """The lines of an open file with their ends, as long as memory can be sure to hold them.

    Raises:
        DataError: a line has no end in reach.
    """
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"line {number} of {path} has more than {LONGEST_LINE >> 20} MiB",
                where=f"{path}:{number}",
                fix="break it into lines, or give one document a line (.jsonl)",
            )
        yield line


@contextmanager
def open_plain(path: Path) -> Iterator[BufferedReader]:
    """A file to read bytes from, decompressed if its name says so. What is read fails only inside of this.

    Raises:
        DataError: the system refuses, `zstandard` is missing, or the compressed data is cut off or broken.
    """
    with open_bytes(path) as file:
        suffix = path.suffix.lower()
        if suffix == ".gz":
            with _explained(path, (EOFError, zlib.error, gzip.BadGzipFile)), gzip.open(file) as opened:
                yield cast("BufferedReader", opened)  # which has all of its methods
        elif suffix == ".zst":
            zstandard = _zstandard(path)
            frames = _ZstdFrames(file, zstandard)
            with _explained(path, (EOFError, zstandard.ZstdError)), BufferedReader(frames) as opened:
                yield cast("BufferedReader", opened)
        else:
            yield file


class _ZstdFrames(io.RawIOBase):
    """What the frames of a file hold, one after the other. The package's own reader takes a cut file for a whole one."""

    def __init__(self, file: IO[bytes], zstandard: Any) -> None:
        self._file, self._zstandard = file, zstandard
        self._frame = self._new_frame()
        self._begun = False
        self._rest = memoryview(b"")

    def _new_frame(self) -> Any:
        return self._zstandard.ZstdDecompressor().decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            data = self._frame.unused_data if self._frame.eof else b""
            data = data or self._file.read(_ZSTD_BYTES)
            if not data:
                if self._begun and not self._frame.eof:
                    raise EOFError("the last frame is cut off")
                return 0
            if self._frame.eof:
                self._frame = self._new_frame()
            self._begun = True
            self._rest = memoryview(self._frame.decompress(data))
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


@contextmanager
def _explained(path: Path, broken: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except broken as error:
        raise DataError(
            f"{path} cannot be decompressed to its end: {error}",
            where=str(path),
            fix="download it anew; if it is not compressed at all, rename it without "
            f"{path.suffix} ({path.name.removesuffix(path.suffix)})",
        ) from error


def _zstandard(path: Path) -> Any:
    try:
        return import_module("zstandard")
    except ImportError as error:
        fix = f"pip install 'omnictl[zstd]', or decompress it (zstd -d {path.name})"
        raise DataError(f"{path}: reading Zstandard needs the package zstandard", where=str(path), fix=fix) from error
