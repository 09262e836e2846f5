"""COCO objects: `annotations/instances_train2017.json`, or `train/_annotations.coco.json` as Roboflow exports them.

An image is labelled with the category whose objects cover most of it (`main_object`).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from omnictl.config.split import Split
from omnictl.data.images.annotations.coco_index import (
    CocoIndex,
    broken_row,
    find_flaw,
    place_of_images,
    read_files,
    read_index,
    split_of_index,
)
from omnictl.data.images.annotations.main_object import MarkedObject, choose_main_object, log_choices
from omnictl.data.images.manifest import IMAGES, ImageManifest
from omnictl.data.manifest.rows import BrokenRow, Record, json_type, parse_split

_PREFIX = "instances_"
_ROBOFLOW = "_annotations.coco.json"
_FIX = (
    'download it anew, or write {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "cat"}], '
    '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 10]}]}'
)


def object_indexes(folder: Path) -> list[Path]:
    """The indexes of objects in a folder, in its `annotations` or in the folders of its splits."""
    names = (f"annotations/{_PREFIX}*.json", f"{_PREFIX}*.json", _ROBOFLOW, f"*/{_ROBOFLOW}")
    return sorted(chain.from_iterable(folder.glob(name) for name in names))


def is_object_index(file: Path) -> bool:
    """Whether a file is an index of objects by its name."""
    return file.name == _ROBOFLOW or (file.name.startswith(_PREFIX) and file.suffix == ".json")


def read_objects(folder: Path, indexes: Sequence[Path]) -> ImageManifest:
    """The images of all indexes, each with its main object's category as its `label`.

    The split is told by the name of the index or its folder; an index that is read alone is split by hash.

    Raises:
        DataError: an index without `images`, `annotations` and `categories`, or no usable image.
    """
    records = chain.from_iterable(_records(index, folder, split=_split(index, folder, indexes)) for index in indexes)
    return IMAGES.collect(folder, folder.resolve(), records)


def read_object_index(index: Path) -> ImageManifest:
    """The images of one index alone, which lies beside them or in `annotations`."""
    return read_objects(index.parent.parent if index.parent.name == "annotations" else index.parent, [index])


def _name(index: Path) -> str:
    return "" if index.name == _ROBOFLOW else index.stem.removeprefix(_PREFIX)


def _split(index: Path, folder: Path, indexes: Sequence[Path]) -> Split | None:
    if len(indexes) == 1:
        return None
    return split_of_index(_name(index)) if index.name != _ROBOFLOW or index.parent == folder else parse_split(index.parent.name)


def _records(file: Path, folder: Path, *, split: Split | None) -> Iterator[Record | BrokenRow]:
    index = read_index(file, ("images", "annotations", "categories"), _FIX)
    name = _name(file)
    place = place_of_images(name, file, folder) if name else _beside(file, folder)
    files: dict[object, object] = {}
    for entry in read_files(index):
        if isinstance(entry, BrokenRow):
            yield entry
        else:
            files[entry[0]] = entry[1]
    objects: dict[object, list[MarkedObject]] = {image_id: [] for image_id in files}
    for image_id, marked in _objects(index, files):
        if isinstance(marked, BrokenRow):
            yield marked
        else:
            objects[image_id].append(marked)
    labelled = mixed = 0
    for image_id, image in files.items():
        main = choose_main_object(objects[image_id])
        if main is None:
            continue
        labelled, mixed = labelled + 1, mixed + main.has_others
        path = f"{place}{image}" if isinstance(image, str) else image
        yield Record(f"{file}: image {image_id}", {"image": path, "label": main.category, "split": split})
    log_choices(str(file), labelled=labelled, mixed=mixed, empty=len(files) - labelled)


def _beside(index: Path, folder: Path) -> str:
    return "" if index.parent == folder else f"{index.parent.relative_to(folder).as_posix()}/"


def _objects(index: CocoIndex, files: Mapping[object, object]) -> Iterator[tuple[object, MarkedObject | BrokenRow]]:
    """The objects of known images, and what cannot be used of categories and annotations."""
    names: dict[object, str] = {}
    for number, category in enumerate(index.lists["categories"], start=1):
        flaw = find_flaw(category, "id", "name")
        if flaw is None and not (isinstance(category["name"], str) and category["name"].strip()):
            flaw = f"the name should be a string, found {json_type(category['name'])}"
        if flaw is None:
            names[category["id"]] = category["name"].strip()
        else:
            yield None, broken_row(f"{index.file}: category {number}", flaw)
    for number, annotation in enumerate(index.lists["annotations"], start=1):
        marked = _object(annotation, names, files)
        if isinstance(marked, str):
            yield None, broken_row(f"{index.file}: annotation {number}", marked)
        else:
            yield annotation["image_id"], marked


def _object(annotation: Any, names: Mapping[object, str], files: Mapping[object, object]) -> MarkedObject | str:
    """An object, or why there is none."""
    flaw = find_flaw(annotation, "image_id", "category_id")
    if flaw is not None:
        return flaw
    image_id, category = annotation["image_id"], annotation["category_id"]
    if image_id not in files:
        return f"there is no image with the id {image_id!r}"
    if not isinstance(category, int | str) or category not in names:
        return f"there is no category with the id {category!r}"
    area = _area(annotation)
    return MarkedObject(names[category], area) if area > 0 else "it has no area: expected bbox, [x, y, width, height], or area"


def _area(annotation: Mapping[str, Any]) -> float:
    """In pixels; 0 where nothing says it."""
    area, box = annotation.get("area"), annotation.get("bbox")
    if isinstance(area, int | float) and area > 0:
        return float(area)
    if isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box):
        return max(0.0, float(box[2]) * float(box[3]))
    return 0.0
