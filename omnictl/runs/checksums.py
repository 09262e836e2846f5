"""Checksums of a model folder: `manifest.json` has the size and the SHA-256 of every other file, and every reader checks them.

Weights are replaced while a run trains, in two renames. Between them the manifest names what was there before, too, so that a
power cut at any moment leaves a folder that is whole, with the old weights or the new. A folder without a manifest is older than
this, and read with a note.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omnictl.errors import CheckpointError
from omnictl.regular_files import MAX_DESCRIPTION, open_regular, read_regular
from omnictl.runs.files import sync_dir, sync_file, write_json, writing

MANIFEST = "manifest.json"

logger = logging.getLogger(__name__)

Entry = dict[str, Any]
"""`bytes` and `sha256` of a file; `before`: the same of what it is about to replace."""


def describe_file(path: Path) -> Entry:
    """Size and SHA-256 of a file."""
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}


def begins_with(path: Path, entry: Entry) -> bool:
    """Whether a file that only ever grows still begins with what `describe_file` saw; not so if it cannot be read."""
    try:
        with open_regular(path) as file:
            beginning = file.read(entry["bytes"])
    except OSError:
        return False
    return {"bytes": len(beginning), "sha256": hashlib.sha256(beginning).hexdigest()} == entry


def seal(folder: Path) -> None:
    """Flush the files of a model folder, and name in its manifest those that it does not name yet.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    with writing(folder):
        for path in _files(folder):
            sync_file(path)
        sync_dir(folder)
    write_json(folder / MANIFEST, _entries(folder))


def seal_anew(folder: Path) -> None:
    """The same, of files that were written anew; raises as `seal`."""
    with writing(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
    seal(folder)


def replace_sealed(draft: Path, final: Path) -> None:
    """Put a flushed draft into the place of a file of a sealed folder, in such a way that one of the two is there, whole.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    folder = final.parent
    new, entries = describe_file(draft), _entries(folder)
    old = entries.get(final.name)
    entries[final.name] = new if old is None else {**new, "before": {key: old[key] for key in ("bytes", "sha256")}}
    write_json(folder / MANIFEST, entries)
    with writing(final):
        draft.replace(final)
        sync_dir(folder)
    if old is not None:
        write_json(folder / MANIFEST, {**entries, final.name: new})


def read_sealed(path: Path, most: int = MAX_DESCRIPTION) -> bytes:
    """All bytes of a file of a model folder, checked.

    Raises:
        CheckpointError: they are not those that the manifest describes.
        OSError: the file cannot be read, or has more than `most` bytes.
    """
    data = read_regular(path, most)
    if is_sealed(path.parent):
        _compare(path, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}, read_manifest(path.parent).get(path.name))
    return data


def check_sealed(path: Path) -> None:
    """Refuse a file of a model folder that is not as it was written.

    Raises:
        CheckpointError: it is not the one that the manifest describes.
        OSError: the file cannot be read.
    """
    if not is_sealed(path.parent):
        return
    entry, size = read_manifest(path.parent).get(path.name), path.stat().st_size
    if entry is not None and size not in (entry["bytes"], entry.get("before", entry)["bytes"]):
        raise _damage(path, f"it has {size:,} bytes, {entry['bytes']:,} were written")
    _compare(path, describe_file(path), entry)


def check_folder(folder: Path) -> None:
    """Refuse a model folder of which any file is missing, or not as it was written; one without a manifest passes.

    Raises:
        CheckpointError: as `check_sealed`.
        OSError: a file cannot be read.
    """
    for name, entry in read_manifest(folder).items():
        path = folder / name
        if not path.is_file():
            raise _damage(path, "it is missing")
        _compare(path, describe_file(path), entry)
        if path.name == MANIFEST:
            check_folder(path.parent)


def is_sealed(folder: Path) -> bool:
    """Whether a model folder has checksums."""
    return (folder / MANIFEST).exists()


def read_manifest(folder: Path) -> Mapping[str, Entry]:
    """The entries of a manifest by file; none of a folder without.

    Raises:
        CheckpointError: it cannot be read, or is none.
    """
    path = folder / MANIFEST
    if not is_sealed(folder):
        return {}
    try:
        entries = json.loads(read_regular(path))
        if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
            raise ValueError("it does not give the size and the SHA-256 of files")
    except (OSError, ValueError, RecursionError) as error:
        raise _damage(path, str(error)) from error
    return entries


def note_unsealed(folder: Path, *, was_sealed: bool) -> None:
    """Say, once a process, that a model folder carries no checksums; of one that lies in another, that one says it.

    Args:
        folder: that is opened.
        was_sealed: whether its weights say that there is a manifest.

    Raises:
        CheckpointError: there was one.
    """
    if is_sealed(folder):
        return
    if was_sealed:
        raise _damage(folder / MANIFEST, "it is missing, and the weights beside it were written with one")
    if not (folder.parent / "config.json").is_file():
        _note(str(folder))


@lru_cache
def _note(folder: str) -> None:
    logger.warning("%s carries no checksums: it was made before there were any, so damage to it would go unnoticed", folder)


def _files(folder: Path) -> list[Path]:
    """What a manifest describes: the files, and of a part, which has its own, that manifest."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")]
    return sorted([*files, *folder.glob(f"*/{MANIFEST}")])


def _entries(folder: Path) -> dict[str, Entry]:
    """The entries that there are, and new ones of files that have none."""
    known = read_manifest(folder)
    names = [str(path.relative_to(folder)) for path in _files(folder)]
    return {**known, **{name: describe_file(folder / name) for name in names if name not in known}}


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int) or not isinstance(entry.get("sha256"), str):
        return False
    return "before" not in entry or _is_entry(entry["before"])


def _compare(path: Path, found: Entry, entry: Entry | None) -> None:
    if entry is None:
        raise _damage(path, f"{MANIFEST} beside it does not name it")
    if found not in ({key: entry[key] for key in ("bytes", "sha256")}, entry.get("before")):
        raise _damage(path, f"its SHA-256 is not the one that {MANIFEST} beside it gives")


def _damage(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged: {problem}",
        where=str(path),
        fix="copy the model folder anew from where it came; a run whose weights alone are damaged mends them with --resume. "
        f"If you changed it on purpose, put its new size and SHA-256 into {MANIFEST}",
    )
