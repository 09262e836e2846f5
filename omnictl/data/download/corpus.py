"""A public corpus in a folder: downloaded, checked, unpacked, and described by a note about where it comes from."""

import shutil
from pathlib import Path

from omnictl.data.download.archives import is_archive, unpack_archive, whole_or_absent
from omnictl.data.download.catalogue import PublicCorpus, RemoteFile
from omnictl.data.download.transfer import Report, download
from omnictl.errors import DataError, DiskFull, UsageError

NOTE = "SOURCE.md"
"""Not `.txt`, which would be trained on as a text."""
_MOST_TIMES = 4
"""By which factor what is unpacked may be larger than it is known to be."""
_SLACK_BYTES = 1 << 26


def get_corpus(name: str, corpus: PublicCorpus, folder: Path, report: Report, *, pause: float = 1.0) -> Path:
    """The folder to give to `--data`, once everything is there. What an interrupted call left is gone on with.

    Args:
        name: of the corpus, for its note.
        corpus: what to get.
        folder: new or empty. Until all is well, archives lie in a hidden folder beside it.
        report: is told how far each file is.
        pause: seconds before a server is asked again.

    Raises:
        UsageError: the folder has something in it.
        DataError: a file cannot be downloaded or unpacked, or is not what it should be.
        DiskFull: no space.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fix = "name another folder, or remove this one"
        raise UsageError(f"{folder} exists and is not empty", where=str(folder), fix=fix)
    archives = folder.with_name(f".{folder.name}.download")
    _check_space(corpus, archives)
    _make(archives)
    files = [download(file, archives, report, pause=pause) for file in corpus.files]
    try:
        with whole_or_absent(folder) as draft:
            for file, path in zip(corpus.files, files, strict=True):
                _place(file, path, draft / file.place, corpus)
            if corpus.prepare is not None:
                corpus.prepare(draft)
            (draft / NOTE).write_text(f"{name}: {corpus.summary}\n{corpus.source}\nlicence: {corpus.licence}\n", encoding="utf-8")
    except DataError:
        shutil.rmtree(archives)  # a good checksum, and not what it should be: another try needs other files
        raise
    shutil.rmtree(archives)
    return folder / corpus.data


def _place(file: RemoteFile, path: Path, folder: Path, corpus: PublicCorpus) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if is_archive(path):
        most_bytes = int(max(corpus.unpacked, 1) * path.stat().st_size * _MOST_TIMES) + _SLACK_BYTES
        unpack_archive(path, folder, most_bytes=most_bytes)
    else:
        path.rename(folder / file.name)


def _check_space(corpus: PublicCorpus, archives: Path) -> None:
    """Refuse what does not fit, before a byte is downloaded."""
    have = sum(file.stat().st_size for file in archives.glob("*")) if archives.is_dir() else 0
    needed = int(corpus.num_bytes * (1 + corpus.unpacked)) - have
    place = archives.parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskFull(
            f"it takes {needed / 1e9:.1f} GB to download and unpack, {free / 1e9:.1f} GB are free in {place}",
            where=str(place),
            fix="free some space, or name a folder on another disk: omnictl data get NAME DIR",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "name a folder that can be written: omnictl data get NAME DIR"
        raise DataError(f"cannot make {folder}: {error.strerror}", where=str(folder), fix=fix) from error
