"""Archives unpacked so that nothing lands outside of a folder, and no more than was expected."""

import errno
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from omnictl.errors import DataError, DiskFull

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST_FILES = 5_000_000


def is_archive(path: Path) -> bool:
    """Whether a file's name is one of an archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack_archive(path: Path, folder: Path, *, most_bytes: int) -> None:
    """The files of a ZIP or tar archive below a folder; links and devices in it are left out, as no corpus needs any.

    Args:
        path: of the archive.
        folder: where to.
        most_bytes: what is unpacked may take.

    Raises:
        DataError: broken, a file that would land elsewhere, or more than `most_bytes`.
        DiskFull: no space left.
    """
    left = most_bytes
    try:
        with closing(_members(path)) as members:
            for count, (name, size, content) in enumerate(members, start=1):
                left -= size
                if left < 0 or count > MOST_FILES:
                    raise _bomb(path, most_bytes)
                with content as source:
                    target = folder / _safe(name, path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as out:
                        _copy(source, out, size, path)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path.name} is a broken archive: {error}", where=str(path), fix="download it anew") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "free some space, or name another folder: omnictl data get NAME DIR"
            raise DiskFull(f"no space left to unpack {path.name} in {folder}", where=str(folder), fix=fix) from error
        raise DataError(f"{path.name} cannot be unpacked: {error}", where=str(path), fix="download it anew") from error


Member = tuple[str, int, IO[bytes]]


def _members(path: Path) -> Generator[Member, None, None]:
    """Name, size and content of every ordinary file."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir() and not _is_link(entry):
                    yield entry.filename, entry.file_size, archive.open(entry)
    else:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield member.name, member.size, file


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return (entry.external_attr >> 16) & 0o170000 == 0o120000


def _safe(name: str, path: Path) -> PurePosixPath:
    """A name below the folder."""
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in place.parts[0] or "\0" in name:
        raise DataError(
            f"{path.name} has a file that would land outside of the folder: {name!r}",
            where=str(path),
            fix="do not unpack it: it is not what the publisher made",
        )
    return place


def _copy(source: IO[bytes], out: IO[bytes], size: int, path: Path) -> None:
    """The bytes of a file, no more than its archive says."""
    left = size
    while chunk := source.read(min(1 << 20, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise _bomb(path, size)
        out.write(chunk)


def _bomb(path: Path, most_bytes: int) -> DataError:
    return DataError(
        f"{path.name} unpacks to more than the {most_bytes:,} bytes that were expected",
        where=str(path),
        fix="do not unpack it: it is not what the publisher made",
    )


@contextmanager
def whole_or_absent(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place when it is full; nothing of it is left if that fails."""
    draft = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        if folder.is_dir():
            folder.rmdir()  # it is empty
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
