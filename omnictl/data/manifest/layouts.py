"""Which layout a folder has, of those that a kind of corpus comes in: one of them, or an error that lists what is recognised."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple

from omnictl.data.manifest.compression import PACKED_SUFFIXES, open_plain, plain_suffix
from omnictl.data.manifest.rows import SUFFIXES, Manifest, Row, Schema
from omnictl.data.manifest.tables import parse_header, text_encoding
from omnictl.errors import DataError


class Layout(NamedTuple, Generic[Row]):
    """A layout that a folder seems to have, and what gave it away."""

    name: str
    file: Path
    read: Callable[[], Manifest[Row]]


def choose_layout(path: Path, layouts: Sequence[Layout[Row]], kind: str, recognised: str) -> Layout[Row]:
    """The layout of a folder.

    Args:
        path: of the folder.
        layouts: all that it seems to have.
        kind: "speech data", "images".
        recognised: the layouts that exist, one per line.

    Raises:
        DataError: none, or several.
    """
    if len(layouts) == 1:
        return layouts[0]
    if layouts:
        names = " and ".join(f"{layout.name} ({layout.file})" for layout in layouts)
        message = f"{path} has {len(layouts)} layouts at once: {names}"
        fix = "give --data the manifest file that is meant, or move one of them elsewhere"
    else:
        message = f"{path} has no layout of {kind} that is known"
        fix = "write a manifest, or give --data the folder that directly holds one of these"
    raise DataError(f"{message}\nRecognised are\n{recognised}", where=str(path), fix=fix)


def find_manifest_files(folder: Path) -> list[Path]:
    """The files of a folder that have the name of a manifest."""
    names = [f"{stem}{suffix}" for stem in ("metadata", "manifest") for suffix in SUFFIXES]
    files = [folder / f"{name}{packed}" for name in names for packed in ("", *PACKED_SUFFIXES)]
    return [file for file in files if file.is_file()]


def find_manifests(files: Iterable[Path], schema: Schema[Row]) -> Iterator[Layout[Row]]:
    """Those of the files that are manifests of this kind of corpus, as far as their first line tells."""
    for file in files:
        if schema.file in read_columns(file, schema):
            yield Layout("manifest", file, partial(schema.read, file))


def read_columns(file: Path, schema: Schema[Row]) -> list[str]:
    """The columns that the first line names; of JSONL, whose lines name their own, that of the path."""
    if plain_suffix(file) in (".jsonl", ".json"):
        return [schema.file]
    return parse_header(read_first_line(file))


def read_first_line(file: Path) -> str:
    """Of a text file, the beginning at least; bytes that are not text are replaced."""
    with open_plain(file) as opened:
        line = opened.readline(100_000)
    return line.decode(text_encoding(line), errors="replace").partition("\r")[0].partition("\n")[0].removesuffix("\ufffd")
