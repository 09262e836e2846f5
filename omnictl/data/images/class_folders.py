"""Pictures in folders named after what they show: `CLASS/*.jpg`, or `train/CLASS/*.jpg`, `val/CLASS/*.jpg`, `test/CLASS/*.jpg`.

In a class folder every file has to be a picture; around them, files that are none (a licence, a list of the classes) say
nothing and are passed over, as is everywhere what is hidden or left behind by an operating system.
"""

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from omnictl.config.split import SPLITS
from omnictl.data.images.manifest import IMAGES, ImageManifest
from omnictl.data.manifest.rows import BrokenRow, Record, named_split
from omnictl.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")
_FORMS = {1: "CLASS/PICTURE", 2: "SPLIT/CLASS/PICTURE"}
_MANIFEST = "write a manifest: metadata.csv with image,label|caption"
_SHOWN = 3


class _Found(NamedTuple):
    """What is in the folder of a corpus, below which its path is."""

    path: PurePath
    kind: Literal["file", "link to a folder", "empty folder"]


def class_names(folder: Path) -> set[str]:
    """The names of the class folders that have pictures."""
    places = {0: [], 1: _folders(folder), 2: [inner for split in _splits(folder) for inner in _folders(split)]}
    return {place.name for place in places[_depth(folder)] if any(_pictures(place))}


def loose_pictures(folder: Path) -> list[Path]:
    """The pictures that lie where no folder tells their class."""
    places = [folder] if _depth(folder) == 1 else [folder, *_splits(folder)]
    return [picture for place in places for picture in _pictures(place)]


def read_class_folders(folder: Path) -> ImageManifest:
    """The pictures of all classes in the order of their paths, each with its class as its `label`.

    Raises:
        DataError: pictures in no class folder, one class alone, a folder that cannot be listed, or no usable picture.
    """
    loose = [picture.relative_to(folder) for picture in loose_pictures(folder)]
    if loose:
        others = f" and {len(loose) - _SHOWN} more" if len(loose) > _SHOWN else ""
        raise DataError(
            f"{folder} has pictures in no class folder: {', '.join(map(str, loose[:_SHOWN]))}{others}",
            where=str(folder / loose[0]),
            fix=f"move each into a folder named after its class ({loose[0].parent / 'CLASS' / loose[0].name}), or {_MANIFEST}",
        )
    names = class_names(folder)
    if len(names) == 1:
        raise DataError(
            f"{folder} has one class folder alone: {names.pop()}",
            where=str(folder),
            fix=f"give every class a folder of its own, or {_MANIFEST}",
        )
    return IMAGES.collect(folder, folder.resolve(), _records(folder, _depth(folder)))


def _depth(folder: Path) -> int:
    """In how many folders a picture lies: that of its class (1), in that of its split (2); 0 if none tells its class."""
    splits = _splits(folder)
    if any(any(_pictures(inner)) for split in splits for inner in _folders(split)):
        return 2
    # A class may be called `train`, but hardly are all of them called like splits.
    return int(any(any(_pictures(top)) for top in _folders(folder) if top not in splits))


def _records(folder: Path, depth: int) -> Iterator[Record | BrokenRow]:
    for found in _walk(folder, PurePath()):
        path = found.path
        if found.kind == "file" and not _is_picture(path) and (len(path.parts) <= depth or _is_outside(path, depth)):
            continue
        flaw = _flaw(found, depth)
        if flaw is not None:
            name = path.as_posix().encode(errors="backslashreplace").decode()
            yield BrokenRow(name, str(folder / name), flaw)
        else:
            split = path.parts[0] if depth == 2 else None
            yield Record(str(folder / path), {"image": path.as_posix(), "label": path.parts[depth - 1], "split": split})


def _flaw(found: _Found, depth: int) -> str | None:
    path = found.path
    if any("\ud800" <= character <= "\udfff" for character in str(path)):  # how Python shows bytes that it cannot decode
        return "its name is not UTF-8: rename it"
    if found.kind == "empty folder":
        return "the folder is empty"
    if found.kind == "link to a folder":
        return "a link to a folder is not followed: put the folder in its place"
    if _is_outside(path, depth):
        return f"the folder {path.parts[0]!r} is none of the splits {', '.join(SPLITS)}"
    if not _is_picture(path):
        return f"it is no picture: expected one of {', '.join(SUFFIXES)}"
    if len(path.parts) > depth + 1:
        return f"it lies deeper than {_FORMS[depth]}: move it up to {PurePath(*path.parts[:depth], path.name).as_posix()}"
    return None


def _is_outside(path: PurePath, depth: int) -> bool:
    return depth == 2 and named_split(path.parts[0]) is None


def _walk(folder: Path, below: PurePath) -> Iterator[_Found]:
    listed = _visible(folder / below)
    if not listed:
        yield _Found(below, "empty folder")
    for each in listed:
        path = below / each.name
        if not each.is_dir():
            yield _Found(path, "file")
        elif each.is_symlink():
            yield _Found(path, "link to a folder")
        else:
            yield from _walk(folder, path)


def _splits(folder: Path) -> list[Path]:
    return [each for each in _folders(folder) if named_split(each.name) is not None]


def _folders(folder: Path) -> list[Path]:
    return [each for each in _visible(folder) if each.is_dir()]


def _pictures(folder: Path) -> Iterator[Path]:
    return (each for each in _visible(folder) if _is_picture(each) and not each.is_dir())


def _is_picture(path: PurePath) -> bool:
    return path.suffix.lower() in SUFFIXES


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, in the order of the names.

    Raises:
        DataError: the system refuses to tell.
    """
    try:
        listed = sorted(folder.iterdir(), key=lambda each: each.name)
    except OSError as error:
        message = f"cannot read {folder}: {error.strerror}"
        raise DataError(message, where=str(folder), fix="make it readable for this user") from error
    return [each for each in listed if not each.name.startswith(".") and each.name.lower() not in _LITTER]
