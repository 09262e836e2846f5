"""What kind of corpus a path leads to, from names and first lines alone: only its own reader says whether all of it is right."""

from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path

from omnictl.data.dialogues import manifest as dialogue_manifest
from omnictl.data.dialogues.conversation_formats import CONVERSATION_KEYS
from omnictl.data.images import class_folders
from omnictl.data.images import layouts as image_layouts
from omnictl.data.images.annotations.coco_objects import is_object_index
from omnictl.data.images.class_folders import find_class_names
from omnictl.data.images.layouts import has_annotations
from omnictl.data.inspect.findings import Kind
from omnictl.data.manifest.compression import open_plain, plain_suffix
from omnictl.data.manifest.json_objects import JSON_SUFFIXES, JsonValue, read_json_values
from omnictl.data.manifest.layouts import find_manifest_files
from omnictl.data.manifest.rows import parse_split
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.manifest.tables import parse_header, text_encoding
from omnictl.data.packed.arrow_tables import is_datasets_cache
from omnictl.data.packed.unpack import find_packed, is_packed_corpus
from omnictl.data.speech import layouts as speech_layouts
from omnictl.data.speech.layouts import public_corpora, subtitled_recordings
from omnictl.data.text import files as text_files
from omnictl.errors import DataError

_COLUMNS: dict[str, Kind] = {**dict.fromkeys(CONVERSATION_KEYS, "dialogues"), "image": "images", "audio": "speech"}
_SUFFIXES: dict[str, Kind] = {
    **dict.fromkeys(class_folders.SUFFIXES, "images"),
    **dict.fromkeys(speech_layouts.AUDIO_SUFFIXES, "speech"),
    **dict.fromkeys(text_files.SUFFIXES, "text"),
}
_MOST_FILES = 10_000
"""That are counted of a folder: enough to know what it is mostly made of."""
RECOGNISED = f"""\
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
    path = source_path(source)
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", where=source, fix="check the path, or name tinyworld or tinyworld:SEED")
    kind = _of_folder(path) if path.is_dir() else _of_packed(path) or _of_file(path)
    if kind is None:
        raise DataError(
            f"{path} is neither speech nor images nor dialogues nor text that is known\nRecognised are\n{RECOGNISED}",
            where=source,
            fix="name a manifest, a text file, or the folder that directly holds one of these",
        )
    return kind


def _of_file(file: Path) -> Kind | None:
    if plain_suffix(file) in (".csv", ".tsv"):
        return _of_table(file) or "speech"
    if is_object_index(file):
        return "images"
    if plain_suffix(file) in JSON_SUFFIXES:
        return _of_table(file) or "text"
    return "text" if text_files.is_text_name(file) else None


def find_index_kind(folder: Path) -> Kind | None:
    """What a folder is by a manifest, by dialogues or by the layout of a public corpus; None where only its files tell."""
    if (folder / dialogue_manifest.FILE_NAMES[0]).is_file():
        return "dialogues"
    named = next((kind for table in find_manifest_files(folder) if (kind := _of_table(table)) is not None), None)
    if named is not None:
        return named
    if any(True for _ in (*public_corpora(folder), *subtitled_recordings(folder))):
        return "speech"
    if any(_is_dialogues(file) for file in sorted(folder.iterdir())):
        return "dialogues"
    return "images" if has_annotations(folder) else None


def find_file_kind(file: Path) -> Kind | None:
    """What a file is, a manifest of any name among them; None for all that is no corpus by itself, such as one recording."""
    if plain_suffix(file) in (".csv", ".tsv"):
        return _of_table(file)
    if plain_suffix(file) in JSON_SUFFIXES:
        return _of_table(file) or ("text" if "text" in _read_first_rows(file)[0] else None)
    if is_datasets_cache(file):
        return None
    return _of_packed(file) or ("text" if text_files.is_text_name(file) else None)


def find_packed_kind(folder: Path) -> Kind | None:
    """What the packed files are that lie in a folder, or in its folders if these are its splits; None if there are none."""
    entries = sorted(folder.iterdir())
    holds_some = any(is_packed_corpus(entry) for entry in entries)
    splits = [entry for entry in entries if entry.is_dir() and parse_split(entry.name) is not None]
    if not holds_some and not any(is_packed_corpus(file) for split in splits for file in split.iterdir()):
        return None
    return _of_packed(folder)


def media_kind(file: Path) -> Kind | None:
    """Whether a file is an image or a recording, by its name."""
    kind = _SUFFIXES.get(plain_suffix(file))
    return None if kind == "text" else kind


def _of_folder(folder: Path) -> Kind | None:
    named = find_index_kind(folder)
    if named is not None:
        return named
    packed = None if find_class_names(folder) else _of_packed(folder)
    if packed is not None:
        return packed
    counts = _count_kinds(folder)
    if counts["images"] > counts["text"] and len(find_class_names(folder)) > 1:
        return "images"
    kinds: tuple[Kind, ...] = ("text", "images", "speech")  # a folder of text may have a few images
    return next((kind for kind in kinds if counts[kind]), "speech" if find_manifest_files(folder) else None)


def _of_packed(path: Path) -> Kind | None:
    packed = None
    with suppress(DataError):  # its reader will say it
        packed = find_packed(path)
    return None if packed is None else packed.kind


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
    if plain_suffix(file) in (".csv", ".tsv"):
        with open_plain(file) as opened:
            lines = [line for _ in range(4) if (line := opened.readline(100_000))]
        texts = [line.decode(text_encoding(lines[0]), errors="replace").strip() for line in lines]
        rows = [parse_header(text.partition("\r")[0]) for text in texts if text][:2]
        return (rows[0], rows[-1]) if rows else ([], [])
    objects = [value.value for value in _first_values(file) if isinstance(value.value, dict)]
    values = [value for record in objects for name, value in record.items() if isinstance(value, str) and name != "text"]
    return [name for record in objects for name in record], values


def _first_values(file: Path) -> list[JsonValue]:
    values: list[JsonValue] = []
    with suppress(DataError):  # what was read before says what it is
        values.extend(islice(read_json_values(file, ""), 4))
    return values


def _is_dialogues(file: Path) -> bool:
    is_json = plain_suffix(file) in JSON_SUFFIXES and not file.name.startswith(".") and file.is_file()
    return is_json and dialogue_manifest.begins_with_dialogue(file)


def _count_kinds(folder: Path) -> Counter[Kind]:
    """How many files of each kind a folder has, by their suffixes; none that is hidden."""
    visible = (
        file
        for file in folder.rglob("*")
        if plain_suffix(file) in _SUFFIXES and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    return Counter(_SUFFIXES[plain_suffix(file)] for file in islice(visible, _MOST_FILES))
