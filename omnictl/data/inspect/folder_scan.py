"""Which corpora lie in a folder of a person's files, wherever in it, by what the loaders recognise.

A folder is a corpus by its index (a manifest, dialogues, the layout of a public corpus) or, without one, by what lies in it: texts
alone, or images in folders named after what they show. Folders above an index are never one corpus. What the loaders would not
read as one source is listed apart, and what they would not read at all is counted.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from omnictl.data.images.class_folders import find_class_names
from omnictl.data.inspect.corpus_kind import find_file_kind, find_index_kind, find_packed_kind, media_kind
from omnictl.data.inspect.findings import Kind
from omnictl.data.manifest.layouts import find_manifest_files
from omnictl.data.manifest.rows import parse_split
from omnictl.data.text.files import is_text_file, list_files, tells_about_others
from omnictl.errors import DataError

LOOSE: Mapping[Kind, str] = {"images": "images without labels or captions", "speech": "recordings without transcripts"}
"""What files are called that belong to no corpus."""
TEXTS_BESIDE = "texts named after the recordings or images beside them"

_OTHER_FOLDERS = ("__pycache__", "node_modules")


class CorpusPlace(NamedTuple):
    """A corpus, by what it looks like; only its reader knows whether all of it is right."""

    path: Path
    kind: Kind


class FolderScan(NamedTuple):
    """What a folder holds."""

    corpora: tuple[CorpusPlace, ...]
    others: Mapping[str, int]
    """Files that belong to no corpus, by what they are, the commonest first."""


@dataclass
class _Place:
    """What a folder and those below it hold."""

    corpora: list[CorpusPlace] = field(default_factory=list)
    is_closed: bool = False
    """Whether it holds an index, or what is not to be read, so that no folder above is one corpus."""
    loose: Counter[Kind] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> set[Kind]:
        return {corpus.kind for corpus in self.corpora} | set(self.loose)


def scan_folder(folder: Path, skipped: Collection[Path] = ()) -> FolderScan:
    """Finds the corpora of a folder and of those in it.

    Args:
        folder: where to look.
        skipped: folders that are not looked into, such as that of the runs.

    Raises:
        DataError: a folder cannot be listed.
    """
    place = _scan(folder, {path.resolve() for path in skipped})
    for kind, count in place.loose.items():
        place.others[LOOSE[kind]] += count
    return FolderScan(tuple(sorted(place.corpora)), dict(place.others.most_common()))


def _scan(folder: Path, seen: set[Path]) -> _Place:
    """What a folder holds; `seen` takes the folders that were looked into, so that links lead round no circle."""
    real = folder.resolve()
    if real in seen:
        return _Place(is_closed=True)
    seen.add(real)
    try:
        entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    except OSError as error:
        message = f"cannot read {folder}: {error.strerror}"
        raise DataError(message, where=str(folder), fix="make it readable for this user, or name another folder") from error
    folders = [entry for entry in entries if entry.is_dir() and not _is_of_programs(entry)]
    kind = find_index_kind(folder) or find_packed_kind(folder)
    if kind is not None and kind != "dialogues":
        inner = {each: inner_kind for each in folders if (inner_kind := find_index_kind(each)) is not None}
        if not _is_beside_others(folder, entries, kind, list(inner.values())):
            others = [CorpusPlace(each, inner_kind) for each, inner_kind in inner.items() if inner_kind != kind]
            return _Place([CorpusPlace(folder, kind), *others], is_closed=True)
    below = {each: _scan(each, seen) for each in folders}
    files = [entry for entry in entries if entry.is_file() and not tells_about_others(entry)]
    if kind == "dialogues":
        return _with_dialogues(folder, files, below)
    return _without_index(folder, files, below)


def _is_beside_others(folder: Path, entries: Sequence[Path], kind: Kind, inner: Sequence[Kind]) -> bool:
    """Whether a folder looks like recordings only because one folder in it is that corpus, beside other things."""
    return kind == "speech" and inner.count(kind) == 1 and len(entries) > 1 and not find_manifest_files(folder)


def _is_of_programs(folder: Path) -> bool:
    return folder.name in _OTHER_FOLDERS or (folder / "pyvenv.cfg").is_file()


def _with_dialogues(folder: Path, files: Sequence[Path], below: Mapping[Path, _Place]) -> _Place:
    """Dialogues; images and recordings that lie loose here or below are those that they talk about."""
    texts = [CorpusPlace(file, "text") for file in files if file.suffix.lower() == ".txt"]
    merged = _merge(below.values())
    return _Place([CorpusPlace(folder, "dialogues"), *texts, *merged.corpora], is_closed=True, others=merged.others)


def _without_index(folder: Path, files: Sequence[Path], below: Mapping[Path, _Place]) -> _Place:
    place = _merge(below.values())
    tables: list[CorpusPlace] = []
    texts: list[Path] = []
    for file in files:
        kind = media_kind(file) or find_file_kind(file)
        if kind is None:
            place.others[f"{file.suffix.lower() or 'nameless'} files"] += 1
        elif kind == "text":
            texts.append(file)
        elif kind == media_kind(file):
            place.loose[kind] += 1
        else:
            tables.append(CorpusPlace(file, kind))
    if tables:  # manifests of other names: what lies loose is theirs
        place.corpora += tables
        place.is_closed = True
        place.loose.clear()
    media = {file.stem for file in files if media_kind(file) is not None}
    beside = [file for file in texts if file.stem in media]
    if beside:
        place.others[TEXTS_BESIDE] += len(beside)
        place.is_closed = True
    texts = [file for file in texts if file.stem not in media]
    if not place.is_closed and place.kinds <= {"text"} and (texts or place.corpora):
        place.corpora = [CorpusPlace(folder, "text")]
        return place
    place.corpora += _split_texts(folder, texts)
    return _with_class_folders(folder, place, below)


def _split_texts(folder: Path, texts: list[Path]) -> list[CorpusPlace]:
    """The texts of a folder that has other things too: as one corpus if its reader would find no others, else each by itself."""
    if len(texts) > 1 and [file for file in list_files(folder) if is_text_file(file) and not tells_about_others(file)] == texts:
        return [CorpusPlace(folder, "text")]
    return [CorpusPlace(file, "text") for file in texts]


def _with_class_folders(folder: Path, place: _Place, below: Mapping[Path, _Place]) -> _Place:
    """The same; where the folders in it name what their images show, these are one corpus."""
    has_own_images = place.loose["images"] > sum(each.loose["images"] for each in below.values())
    splits = [each for each in below if parse_split(each.name) is not None and CorpusPlace(each, "images") in place.corpora]
    classes = [each for each in below if "images" in below[each].kinds and not below[each].is_closed]
    if has_own_images or not (splits or classes):
        return place
    if not splits and (place.kinds != {"images"} or any(_has_splits(each) for each in classes)):
        classes = [each for each in classes if CorpusPlace(each, "images") not in place.corpora]  # these are corpora themselves
    members = splits or classes
    names = find_class_names(folder)
    if len(names) < 2 or (not splits and names != {each.name for each in members}):
        return place
    place.corpora = [corpus for corpus in place.corpora if corpus.kind != "images" or not _is_in(corpus.path, members)]
    place.corpora.append(CorpusPlace(folder, "images"))
    place.loose["images"] = 0
    place.loose += Counter()  # drops what is zero
    return place


def _has_splits(folder: Path) -> bool:
    return any(entry.is_dir() and parse_split(entry.name) is not None for entry in folder.iterdir())


def _is_in(path: Path, folders: Sequence[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)


def _merge(places: Collection[_Place]) -> _Place:
    merged = _Place(is_closed=any(place.is_closed for place in places))
    for place in places:
        merged.corpora += place.corpora
        merged.loose += place.loose
        merged.others += place.others
    return merged
