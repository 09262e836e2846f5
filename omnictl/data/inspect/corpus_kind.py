"""What kind of corpus a path leads to, from names and first lines alone: only its own reader says whether all of it is right."""

import csv
import json
from collections import Counter
from itertools import islice
from pathlib import Path

from omnictl.data.dialogues import manifest as dialogue_manifest
from omnictl.data.images import class_folders
from omnictl.data.images import layouts as image_layouts
from omnictl.data.images.class_folders import find_class_names
from omnictl.data.images.coco import coco_indexes
from omnictl.data.inspect.findings import Kind
from omnictl.data.manifest.layouts import find_manifest_files
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.manifest.tables import open_bytes
from omnictl.data.speech import layouts as speech_layouts
from omnictl.data.speech.layouts import public_corpora
from omnictl.data.text import files as text_files
from omnictl.errors import DataError

_COLUMNS: dict[str, Kind] = {"messages": "dialogues", "image": "images", "audio": "speech"}
_SUFFIXES: dict[str, Kind] = {
    **dict.fromkeys(class_folders.SUFFIXES, "images"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".opus", ".mp3"), "speech"),
    **dict.fromkeys(text_files.SUFFIXES, "text"),
}
_MOST_FILES = 10_000
"""That are counted of a folder: enough to know what it is mostly made of."""
_RECOGNISED = f"""\
Speech
{speech_layouts.RECOGNISED}
Images
{image_layouts.RECOGNISED}
Dialogues
{dialogue_manifest.RECOGNISED}
Text
{", ".join(text_files.SUFFIXES)} files"""


def find_kind(source: str) -> Kind:
    """What a source looks like; TinyWorld counts as speech.

    Raises:
        DataError: no such path, or of no known kind.
    """
    if tinyworld_seed(source) is not None:
        return "speech"
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", where=source, fix="check the path, or name tinyworld or tinyworld:SEED")
    kind = _of_folder(path) if path.is_dir() else _of_file(path)
    if kind is None:
        raise DataError(
            f"{path} is neither speech nor images nor dialogues nor text that is known\nRecognised are\n{_RECOGNISED}",
            where=source,
            fix="name a manifest, a text file, or the folder that directly holds one of these",
        )
    return kind


def _of_file(file: Path) -> Kind | None:
    if file.suffix.lower() == ".csv":
        return _of_table(file) or "speech"
    if file.suffix.lower() == ".jsonl":
        return _of_table(file) or "text"
    return "text" if file.suffix.lower() in text_files.SUFFIXES else None


def _of_folder(folder: Path) -> Kind | None:
    tables = find_manifest_files(folder)
    if (folder / dialogue_manifest.FILE_NAMES[0]).is_file():
        return "dialogues"
    named = next((kind for table in tables if (kind := _of_table(table)) is not None), None)
    if named is not None:
        return named
    if any(True for _ in public_corpora(folder)):
        return "speech"
    counts = _count_kinds(folder)
    if coco_indexes(folder) or (counts["images"] > counts["text"] and len(find_class_names(folder)) > 1):
        return "images"
    kinds: tuple[Kind, ...] = ("text", "images", "speech")  # a folder of text may have a few images
    return next((kind for kind in kinds if counts[kind]), "speech" if tables else None)


def _of_table(file: Path) -> Kind | None:
    """By the column of paths or messages, or if it is called otherwise, by the files that are named."""
    names, values = _read_first_rows(file)
    for column, kind in _COLUMNS.items():
        if column in names:
            return kind
    suffixes = {Path(value).suffix.lower() for value in values}
    return next((kind for suffix, kind in _SUFFIXES.items() if kind != "text" and suffix in suffixes), None)


def _read_first_rows(file: Path) -> tuple[list[str], list[str]]:
    """Names of columns, and values of the first rows, as far as these lines can be read."""
    with open_bytes(file) as opened:
        lines = [line for _ in range(4) if (line := opened.readline(100_000).decode("utf-8-sig", errors="replace").strip())]
    if file.suffix.lower() == ".csv":
        rows = [[value.strip() for value in next(csv.reader(line.splitlines()), [])] for line in lines[:2]]
        return (rows[0], rows[-1]) if rows else ([], [])
    objects = [record for line in lines if isinstance(record := _json_or_none(line), dict)]
    values = [value for record in objects for name, value in record.items() if isinstance(value, str) and name != "text"]
    return [name for record in objects for name in record], values


def _json_or_none(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _count_kinds(folder: Path) -> Counter[Kind]:
    """How many files of each kind a folder has, by their suffixes; none that is hidden."""
    visible = (
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in _SUFFIXES and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    return Counter(_SUFFIXES[file.suffix.lower()] for file in islice(visible, _MOST_FILES))
