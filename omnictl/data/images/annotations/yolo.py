"""YOLO labels: for each image a `.txt` file with an object a line, `class x y width height` or a polygon, and names in `data.yaml`.

The file lies beside its image, or in `labels/` where that is in `images/`, as Ultralytics and Roboflow write them; names may be in
`classes.txt` or `obj.names`, one a line. An image is labelled with the category that covers most of it (`main_object`).
Format after https://docs.ultralytics.com/datasets/detect.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from omnictl.config.files import read_config
from omnictl.config.split import SPLITS, Split
from omnictl.data.images.annotations.main_object import MarkedObject, choose_main_object, log_choices
from omnictl.data.images.class_folders import SUFFIXES
from omnictl.data.images.manifest import IMAGES, ImageManifest
from omnictl.data.manifest.rows import BrokenRow, Record, parse_split
from omnictl.data.manifest.tables import read_text
from omnictl.errors import DataError

_CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_BOX = 5
"""Fields of a line with a box."""
_LOOKED_AT = 200
"""Images, to see whether a folder has labels of this kind."""


def find_yolo(folder: Path) -> Path | None:
    """The file with the names of the categories, if the folder also has labels beside its images."""
    names = next((file for name in (*_CONFIGS, *_LISTS) if (file := folder / name).is_file()), None)
    if names is None:
        return None
    looked_at = islice(_images(folder), _LOOKED_AT)
    return names if any(_labels_of(image, folder).is_file() for image in looked_at) else None


def read_yolo(folder: Path, names: Path) -> ImageManifest:
    """The images of a folder, each with its main object's category as its `label`.

    Args:
        folder: of the corpus.
        names: what `find_yolo` gives.

    Raises:
        DataError, ConfigError: the names cannot be read, or no image can be used.
    """
    return IMAGES.collect(folder, folder.resolve(), _records(folder, names))


def _records(folder: Path, names_file: Path) -> Iterator[Record | BrokenRow]:
    names, splits = _read_names(names_file)
    labelled = mixed = empty = 0
    read = set[Path]()
    for image in sorted(_images(folder)):
        path = image.relative_to(folder)
        labels = _labels_of(image, folder)
        read.add(labels)
        objects = _read_objects(labels, names, names_file) if labels.is_file() else []
        if isinstance(objects, BrokenRow):
            yield objects._replace(id=path.as_posix())
            continue
        main = choose_main_object(objects)
        if main is None:
            empty += 1
            continue
        labelled, mixed = labelled + 1, mixed + main.has_others
        yield Record(str(labels), {"image": path.as_posix(), "label": main.category, "split": _split_of(path, splits)})
    for labels in sorted(folder.rglob("labels/**/*.txt")):
        if labels not in read and labels.name not in _LISTS and not _is_hidden(labels, folder):
            yield BrokenRow(labels.relative_to(folder).as_posix(), str(labels), "there is no image that these labels are of")
    log_choices(str(folder), labelled=labelled, mixed=mixed, empty=empty)


def _images(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.suffix.lower() in SUFFIXES and not _is_hidden(file, folder):
            yield file


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _labels_of(image: Path, folder: Path) -> Path:
    """The file of an image's labels, whether there is one or not: the last `images` of its folders is `labels`, else beside it."""
    path = image.relative_to(folder)
    parts = list(path.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            inner = folder.joinpath(*parts).with_suffix(".txt")
            return inner if inner.is_file() else image.with_suffix(".txt")
    return image.with_suffix(".txt")


def _split_of(image: Path, splits: Mapping[PurePosixPath, Split]) -> Split | None:
    """By the folders that `data.yaml` names, else by the name of a folder."""
    for folder, split in splits.items():
        if PurePosixPath(image.as_posix()).is_relative_to(folder):
            return split
    named = (parse_split(part) for part in reversed(image.parts[:-1]))
    return next((split for split in named if split is not None), None)


def _read_names(file: Path) -> tuple[list[str], dict[PurePosixPath, Split]]:
    """The names by number, and which folders are which split."""
    if file.name not in _CONFIGS:
        return [line.strip() for line in read_text(file, "write the name of a category a line").splitlines() if line.strip()], {}
    values = read_config(file).values
    given = values.get("names")
    fix = "write names: [cat, dog], or names: {0: cat, 1: dog}"
    if isinstance(given, dict):
        given = [given.get(str(number)) for number in range(len(given))]
    if not isinstance(given, list) or not given or not all(isinstance(name, str | int) for name in given):
        raise DataError(f"{file} has no list of names", where=str(file), fix=fix)
    return [str(name) for name in given], _folders_of_splits(values)


def _folders_of_splits(values: Mapping[str, object]) -> dict[PurePosixPath, Split]:
    """What `train`, `val` and `test` say, as far as they are folders below; lists of files are left to the folders' names."""
    folders: dict[PurePosixPath, Split] = {}
    for key in (*SPLITS, "valid"):
        value, split = values.get(key), parse_split(key)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str) and split is not None:
                parts = [part for part in PurePosixPath(entry).parts if part not in ("..", ".", "/")]
                if parts and not entry.endswith(".txt"):
                    folders[PurePosixPath(*parts)] = split
    return folders


def _read_objects(file: Path, names: Sequence[str], names_file: Path) -> list[MarkedObject] | BrokenRow:
    """The objects of an image, or the first line that cannot be used."""
    objects = []
    for number, line in enumerate(file.read_bytes().decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        marked = _object(line.split(), names, names_file)
        if isinstance(marked, str):
            return BrokenRow(str(file), f"{file}:{number}", marked)
        objects.append(marked)
    return objects


def _object(fields: Sequence[str], names: Sequence[str], names_file: Path) -> MarkedObject | str:
    """The object of a line, or what is wrong with it."""
    try:
        category, *places = [float(field) for field in fields]
    except ValueError:
        return f"found {' '.join(fields)[:60]!r}, expected numbers: class x y width height"
    if not (len(fields) == _BOX or (len(fields) > _BOX and len(places) % 2 == 0)):
        return f"found {len(fields)} numbers, expected class x y width height, or a class and the points of a polygon"
    if not category.is_integer() or not 0 <= category < len(names):
        return f"there is no category {fields[0]}: {names_file.name} has the names of 0 to {len(names) - 1}"
    if not all(math.isfinite(place) and -0.01 <= place <= 1.01 for place in places):
        return "places should be shares of the image from 0 to 1, not pixels"
    area = places[2] * places[3] if len(fields) == _BOX else _polygon_area(places)
    return MarkedObject(names[int(category)], area)


def _polygon_area(places: Sequence[float]) -> float:
    """By Gauss's formula."""
    points = list(zip(places[::2], places[1::2], strict=True))
    turned = [*points[1:], points[0]]
    return abs(sum(x * b - a * y for (x, y), (a, b) in zip(points, turned, strict=True))) / 2
