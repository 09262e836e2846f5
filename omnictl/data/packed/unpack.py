"""Corpora in few large files (Parquet, `datasets` on disk, WebDataset), unpacked once into the cache: rows, and media as files.

Rows and media are read and written one after the other, so that memory does not grow with the corpus. Text is not unpacked: it is
read from where it is.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.config.split import Split
from omnictl.data.manifest.cache import cache_dir, flush, read_or_build
from omnictl.data.manifest.rows import Record, log_passed_over
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.packed.arrow_tables import DATASETS_CACHES, TABLE_SUFFIXES, is_datasets_cache, open_table
from omnictl.data.packed.rows import MediaBytes, PackedKind, PackedRow, Stamps, kind_of, media_of, stamp_of, unify
from omnictl.data.packed.webdataset import is_tar, read_tar
from omnictl.errors import DataError, DiskFull
from omnictl.progress import log_progress

VERSION = 2
"""Of how corpora are unpacked; a change makes old ones worthless."""

_ROWS = "rows.jsonl"
_BESIDE = "beside.json"
"""Which media were looked for beside a table, each with its size and time: their names stand in the table, so no key has them."""
_ROWS_AT_A_TIME = 64
_A_FOLDER = 1_000
"""Files."""


class PackedCorpus(NamedTuple):
    """A corpus in few files, and what it is one of."""

    path: Path
    files: tuple[Path, ...]
    kind: PackedKind
    passed_over: tuple[Path, ...] = ()
    """Tables that are not of the corpus."""


class UnpackedCorpus(NamedTuple):
    """Its rows, and the folder that the paths of its media are relative to."""

    folder: Path
    records: Iterator[Record]


def find_packed(path: Path) -> PackedCorpus | None:
    """The packed corpus of images, speech or dialogues that a path leads to, if it does.

    Raises:
        DataError: pyarrow is missing, or the first file is not whole.
    """
    found = _packed_files(path) if path.is_dir() else [path] if is_packed_corpus(path) else []
    passed_over = [file for file in found if file != path and is_datasets_cache(file)]
    files = [file for file in found if file not in passed_over]
    if not files:
        return None
    first = next(_rows_of(files[0], path, None, {}), None)
    kind = None if first is None else kind_of(first.fields)
    return None if kind is None else PackedCorpus(path, tuple(files), kind, tuple(passed_over))


def _packed_files(folder: Path) -> list[Path]:
    """What a folder holds directly, or in its folders; tables and tars do not lie deeper."""
    files = chain.from_iterable(folder.glob(pattern) for pattern in ("*", "*/*"))
    return sorted(file for file in files if is_packed_corpus(file) and not file.name.startswith(".") and file.is_file())


def is_packed_corpus(file: Path) -> bool:
    """Whether a file is a table or a tar, by its name."""
    return is_tar(file) or file.suffix.lower() in TABLE_SUFFIXES


def unpack(corpus: PackedCorpus) -> UnpackedCorpus:
    """The rows of a packed corpus, its media in the cache.

    What of a folder's tables is passed over is logged.

    Raises:
        DataError: a file is not whole or is changed meanwhile, or the cache cannot be written.
        DiskFull: no space left.
    """
    log_passed_over(corpus.path, corpus.passed_over, DATASETS_CACHES)
    digest = hashlib.sha256(repr((VERSION, corpus.kind)).encode())
    for file in corpus.files:
        digest.update(repr((str(file.resolve()), _split_of(file, corpus.path), stamp_of(file))).encode())
    folder = cache_dir().resolve() / "unpacked" / digest.hexdigest()

    def read(folder: Path) -> Path | None:
        return folder if (folder / _ROWS).is_file() and _find_changed(folder) is None else None

    def write(draft: Path) -> None:
        _check_space(corpus, draft)
        _write(corpus, draft)
        changed = _find_changed(draft)
        if changed is not None:
            fix = "begin again when nothing is written there any more"
            raise DataError(f"{changed} has changed while {corpus.path} was unpacked", where=changed, fix=fix)

    return UnpackedCorpus(folder, _records(read_or_build(folder, read, write)))


def _find_changed(folder: Path) -> str | None:
    """One of the files beside the tables that is no longer as it was when they were unpacked."""
    beside: Stamps = json.loads((folder / _BESIDE).read_text(encoding="utf-8"))
    return next((file for file, stamp in beside.items() if stamp_of(Path(file)) != stamp), None)


def _records(folder: Path) -> Iterator[Record]:
    with (folder / _ROWS).open(encoding="utf-8") as rows:
        for line in rows:
            where, fields = json.loads(line)
            yield Record(where, fields)


def _check_space(corpus: PackedCorpus, folder: Path) -> None:
    needed, free = sum(file.stat().st_size for file in corpus.files), shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"unpacking {corpus.path} takes {needed / 1e9:.1f} GB or more in the cache, {free / 1e9:.1f} GB are free",
            where=str(corpus.path),
            fix="free some space, or choose another cache folder with the environment variable OMNICTL_CACHE",
        )


def _write(corpus: PackedCorpus, folder: Path) -> None:
    beside: Stamps = {}
    with (folder / _ROWS).open("w", encoding="utf-8") as out:
        rows = chain.from_iterable(_rows_of(file, corpus.path, corpus.kind, beside) for file in corpus.files)
        for number, row in enumerate(log_progress(rows, f"unpacking {corpus.path}")):
            fields = {name: _store(value, f"{number:08}", name, folder) for name, value in row.fields.items()}
            json.dump([row.where, {**fields, "split": fields.get("split") or row.split}], out, ensure_ascii=False, default=str)
            out.write("\n")
        flush(out)
    (folder / _BESIDE).write_text(json.dumps(beside), encoding="utf-8")


def _store(value: object, number: str, name: str, folder: Path) -> object:
    """A value as JSON has it; media are written and become paths."""
    if isinstance(value, list):
        return [_store(item, f"{number}-{place}", name, folder) for place, item in enumerate(value)]
    if not isinstance(value, MediaBytes):
        return value
    path = Path(name) / number[: -len(str(_A_FOLDER)) + 1] / f"{number}{value.suffix}"
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(value.data)
    return path.as_posix()


def _rows_of(file: Path, root: Path, kind: PackedKind | None, beside: Stamps) -> Iterator[PackedRow]:
    """The rows of a file; with our keys if their kind is given, else with their own. `beside` takes the media that lie there."""
    if is_tar(file):
        for row in read_tar(file, root):
            yield row if kind is None else row._replace(fields=unify(row.fields, kind, {}))
        return
    with open_table(file) as table:
        classes = _class_names(table.features)
        split = _split_of(file, root)
        columns = [name for name in table.columns if name != "__index_level_0__"]
        for number, values in enumerate(table.rows(_ROWS_AT_A_TIME, columns), start=1):
            fields = {name: media_of(value, file.parent, beside) for name, value in values.items()}
            yield PackedRow(f"{file}: row {number}", fields if kind is None else unify(fields, kind, classes), split)


def _split_of(file: Path, root: Path) -> Split | None:
    return split_of_path(file, root) if file != root else None


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the classes of each column that `datasets` stores by number."""
    labels = {name: value for name, value in features.items() if isinstance(value, dict) and value.get("_type") == "ClassLabel"}
    return {name: list(value["names"]) for name, value in labels.items() if value.get("names")}


def require_kind(corpus: PackedCorpus, kind: PackedKind) -> PackedCorpus:
    """The corpus itself.

    Raises:
        DataError: it is one of another kind.
    """
    if corpus.kind != kind:
        commands = {"speech": "asr or talker", "images": "vision", "dialogues": "sft"}
        fix = f"train {commands[corpus.kind]} on it, or give --data {kind}"
        raise DataError(f"{corpus.path} holds {corpus.kind}, not {kind}", where=str(corpus.path), fix=fix)
    return corpus
