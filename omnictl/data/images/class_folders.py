"""Images in folders named after what they show: `CLASS/*.jpg`, or `train/CLASS/*.jpg`, `val/CLASS/*.jpg`, `test/CLASS/*.jpg`.

As for torchvision's `ImageFolder`, what lies deeper belongs to the class that it lies in, and links to folders are followed. In a
class folder every file has to be an image; around them, files that are none (a licence, a list of the classes) say nothing and are
passed over, as is everywhere what is hidden or left behind by an operating system.
"""

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from omnictl.config.split import SPLITS
from omnictl.data.images.manifest import IMAGES, ImageManifest
from omnictl.data.manifest.rows import BrokenRow, Record, parse_split
from omnictl.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
_LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
_MANIFEST = "write a manifest: metadata.csv with image,label|caption"
_SHOWN = 3


class _Entry(NamedTuple):
    """An entry of a corpus folder, with its path relative to that folder."""

    path: PurePath
    kind: Literal["file", "loop", "empty folder"]


def find_class_names(folder: Path) -> set[str]:
    """The names of the class folders that have images."""
    places = {0: [], 1: _list_folders(folder), 2: [inner for split in _list_splits(folder) for inner in _list_folders(split)]}
    return {place.name for place in places[_depth(folder)] if _has_images(place)}


def find_loose_images(folder: Path) -> list[Path]:
    """The images that lie where no folder tells their class."""
    places = [folder] if _depth(folder) == 1 else [folder, *_list_splits(folder)]
    return [image for place in places for image in _list_images(place)]


def read_class_folders(folder: Path) -> ImageManifest:
    """The images of all classes in the order of their paths, each with its class as its `label`.

    Raises:
        DataError: images in no class folder, one class alone, a folder that cannot be listed, or no usable image.
    """
    loose = [image.relative_to(folder) for image in find_loose_images(folder)]
    if loose:
        more = f" and {len(loose) - _SHOWN} more" if len(loose) > _SHOWN else ""
        raise DataError(
            f"{folder} has images in no class folder: {', '.join(map(str, loose[:_SHOWN]))}{more}",
            where=str(folder / loose[0]),
            fix=f"move each into a folder named after its class ({loose[0].parent / 'CLASS' / loose[0].name}), or {_MANIFEST}",
        )
    names = find_class_names(folder)
    if len(names) == 1:
        deeper = _find_classes_below(folder)
        hint = f"give --data {deeper}, or " if deeper is not None else ""
        raise DataError(
            f"{folder} has one class folder alone: {names.pop()}",
            where=str(folder),
            fix=f"{hint}give every class a folder of its own, or {_MANIFEST}",
        )
    return IMAGES.collect(folder, folder.resolve(), _records(folder, _depth(folder)), follow_links=True)


def _find_classes_below(folder: Path) -> Path | None:
    """The first folder in a chain of folders, each alone with images in its own, that has several classes."""
    place = folder
    while len(inner := [each for each in _list_folders(place) if _has_images(each)]) == 1:
        place = inner[0]
    return place if place != folder and len(inner) > 1 and not find_loose_images(place) else None


def _depth(folder: Path) -> int:
    """In how many folders an image lies: that of its class (1), in that of its split (2); 0 if none tells its class."""
    splits = _list_splits(folder)
    if any(_has_images(inner) for split in splits for inner in _list_folders(split)):
        return 2
    # A class may be called `train`, but hardly are all of them called like splits.
    return int(any(_has_images(top) for top in _list_folders(folder) if top not in splits))


def _has_images(folder: Path) -> bool:
    """Whether there is an image in a folder or below it."""
    return any(entry.kind == "file" and _is_image(entry.path) for entry in _walk(folder, PurePath()))


def _records(folder: Path, depth: int) -> Iterator[Record | BrokenRow]:
    for entry in _walk(folder, PurePath()):
        path = entry.path
        if entry.kind == "file" and not _is_image(path) and (len(path.parts) <= depth or _is_outside(path, depth)):
            continue
        flaw = _flaw(entry, depth)
        if flaw is not None:
            name = path.as_posix().encode(errors="backslashreplace").decode()
            yield BrokenRow(name, str(folder / name), flaw)
        else:
            split = path.parts[0] if depth == 2 else None
            yield Record(str(folder / path), {"image": path.as_posix(), "label": path.parts[depth - 1], "split": split})


def _flaw(entry: _Entry, depth: int) -> str | None:
    path = entry.path
    if any("\ud800" <= character <= "\udfff" for character in str(path)):  # how Python shows bytes that it cannot decode
        return "its name is not UTF-8: rename it"
    if entry.kind == "empty folder":
        return "the folder is empty"
    if entry.kind == "loop":
        return "the link leads back to a folder that it lies in: take it out"
    if _is_outside(path, depth):
        return f"the folder {path.parts[0]!r} is none of the splits {', '.join(SPLITS)}"
    if not _is_image(path):
        return f"it is not an image: expected one of {', '.join(SUFFIXES)}"
    return None


def _is_outside(path: PurePath, depth: int) -> bool:
    return depth == 2 and parse_split(path.parts[0]) is None


def _walk(folder: Path, folder_below: PurePath, above: frozenset[Path] = frozenset()) -> Iterator[_Entry]:
    """All files below a folder, links to folders followed, but not round in circles.

    Args:
        folder: of the corpus.
        folder_below: where to look in it.
        above: the folders that this one lies in, as they really are.
    """
    real = (folder / folder_below).resolve()
    if real in above:
        yield _Entry(folder_below, "loop")
        return
    paths = _list_visible(folder / folder_below)
    if not paths:
        yield _Entry(folder_below, "empty folder")
    for path in paths:
        inner = folder_below / path.name
        if path.is_dir():
            yield from _walk(folder, inner, above | {real})
        else:
            yield _Entry(inner, "file")


def _list_splits(folder: Path) -> list[Path]:
    return [path for path in _list_folders(folder) if parse_split(path.name) is not None]


def _list_folders(folder: Path) -> list[Path]:
    return [path for path in _list_visible(folder) if path.is_dir()]


def _list_images(folder: Path) -> Iterator[Path]:
    return (path for path in _list_visible(folder) if _is_image(path) and not path.is_dir())


def _is_image(path: PurePath) -> bool:
    return path.suffix.lower() in SUFFIXES


def _list_visible(folder: Path) -> list[Path]:
    """What a folder holds, in the order of the names.

    Raises:
        DataError: the system refuses to tell.
    """
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        message = f"cannot read {folder}: {error.strerror}"
        raise DataError(message, where=str(folder), fix="make it readable for this user") from error
    return [path for path in paths if not path.name.startswith(".") and path.name.lower() not in _LITTER]
