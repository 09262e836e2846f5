"""Downloads that go on where they were cut off, from several places in turn, and that believe no server's word.

`pooch` compares checksums; what it has not is here: a part that is kept, asked to be continued (HTTP's `Range`, RFC 9110), and
bounded by what the corpus is known to take.
"""

import contextlib
import errno
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.data.download.catalogue import RemoteFile
from omnictl.errors import DataError, DiskFull

Report = Callable[[str, int, int | None], None]
"""Is told the name of a file, how many bytes of it are there, and of how many."""

_CHUNK = 1 << 14
"""Bytes; of what a connection sends before it is cut, up to so many are lost."""
_MOST_FAILURES = 5
"""In a row, without a byte more."""
_LARGER = 1.5
"""By which factor a file may be larger than it is known to be, before it is something else."""
_SLACK_BYTES = 1 << 26


class _Failure(Exception):
    """Why a place did not give the file."""


class _Head(NamedTuple):
    start: int
    total: int | None


def download(file: RemoteFile, folder: Path, report: Report, *, pause: float = 1.0) -> Path:
    """A file in a folder, whole and with the right checksum; what an earlier try left there is gone on with.

    Args:
        file: what to download.
        folder: where to; until it is whole it ends in `.part`.
        report: is told how far it is.
        pause: seconds before a place is asked again.

    Raises:
        DataError: no place gives it, or what they give is something else; `pooch` is missing.
        DiskFull: no space left.
    """
    pooch = _import_pooch()
    target = folder / file.name
    if target.is_file():
        return target
    failures = []
    for url in file.urls:
        part = folder / f"{file.name}.part"
        try:
            _fetch(url, part, file, report, pause)
            if file.checksum is not None and not pooch.hashes.hash_matches(str(part), file.checksum, strict=False):
                found = pooch.file_hash(str(part), file.checksum.partition(":")[0])
                part.unlink()
                raise _Failure(f"its checksum is {found}, expected {file.checksum.partition(':')[2]}")
        except _Failure as failure:
            failures.append(f"{url}: {failure}")
        else:
            part.rename(target)
            part.with_suffix(".tag").unlink(missing_ok=True)
            return target
    raise DataError(
        f"{file.name} cannot be downloaded\n" + "\n".join(failures),
        where=file.urls[0],
        fix="try again later: what is there already is kept; or name another place that has it with --mirror URL",
    )


def _fetch(url: str, part: Path, file: RemoteFile, report: Report, pause: float) -> None:
    """All bytes of a file; raises `_Failure` if the place does not give them."""
    failures = 0
    reason = ""
    while failures < _MOST_FAILURES:
        before = _size(part)
        try:
            if _continue(url, part, file, report):
                return
            reason = f"the connection was cut after {_size(part):,} bytes"
        except (OSError, ValueError) as error:  # of requests, too
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(part, file) from error
            reason = str(error) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        time.sleep(pause if failures else 0)
    raise _Failure(reason)


def _continue(url: str, part: Path, file: RemoteFile, report: Report) -> bool:
    """Ask for what is missing of a file; whether it is whole then."""
    requests = import_module("requests")
    tag_file = part.with_suffix(".tag")
    have, tag = _size(part), tag_file.read_text(encoding="utf-8") if tag_file.is_file() else ""
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})}
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        if response.status_code == 416:  # nothing is missing, or it has become another file
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total.isdecimal() and int(total) == have:
                return True
            _discard(part)
            raise _Failure("the file there has changed; it is begun anew")
        if response.status_code not in (200, 206):
            raise _Failure(f"{response.status_code} {response.reason}")
        head = _head(response, have)
        _check_size(head.total, file, part)
        if head.start == 0:
            tag_file.write_text(_strong_tag(response), encoding="utf-8")
        return _write(response, head, part, file, report)


def _head(response: Any, have: int) -> _Head:
    length = response.headers.get("Content-Length", "")
    if response.status_code == 200:
        return _Head(0, int(length) if length.isdecimal() else None)
    _, _, content_range = response.headers.get("Content-Range", "").partition("bytes ")
    span, _, total = content_range.partition("/")
    if span.partition("-")[0] != str(have):
        raise _Failure(f"bytes from {have:,} on were asked for, it sends {content_range or 'others'}")
    return _Head(have, int(total) if total.isdecimal() else None)


def _write(response: Any, head: _Head, part: Path, file: RemoteFile, report: Report) -> bool:
    have = head.start
    limit = head.total if head.total is not None else int(file.num_bytes * _LARGER) + _SLACK_BYTES
    with part.open("r+b" if head.start else "wb") as out, contextlib.ExitStack() as at_end:
        out.seek(head.start)
        out.truncate()
        at_end.callback(out.flush)
        for chunk in response.iter_content(_CHUNK):
            have += len(chunk)
            if have > limit:
                _discard(part)
                raise _Failure(f"it sends more than the {limit:,} bytes that were expected")
            out.write(chunk)
            report(file.name, have, head.total)
    return have == head.total if head.total is not None else True


def _check_size(total: int | None, file: RemoteFile, part: Path) -> None:
    if total is not None and total > file.num_bytes * _LARGER + _SLACK_BYTES:
        _discard(part)
        raise _Failure(f"it has {total:,} bytes there, about {file.num_bytes:,} were expected")


def _strong_tag(response: Any) -> str:
    tag = response.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".tag").unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _disk_full(part: Path, file: RemoteFile) -> DiskFull:
    _discard(part)
    return DiskFull(
        f"no space left for {file.name} in {part.parent}: it takes about {file.num_bytes / 1e9:.1f} GB",
        where=str(part.parent),
        fix="free some space, or name another folder: omnictl data get NAME DIR",
    )


def _import_pooch() -> Any:
    try:
        return import_module("pooch")
    except ImportError as error:
        raise DataError(
            "downloading needs the package pooch", where="omnictl data get", fix="pip install 'omnictl[get]'"
        ) from error
