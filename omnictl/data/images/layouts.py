"""Images as they come: manifests, class folders, captions and objects of COCO and YOLO, all judged by the rules of `manifest`."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from omnictl.data.images.annotations.coco_captions import caption_indexes, read_captions
from omnictl.data.images.annotations.coco_objects import is_object_index, object_indexes, read_object_index, read_objects
from omnictl.data.images.annotations.yolo import find_yolo, read_yolo
from omnictl.data.images.class_folders import find_class_names, find_loose_images, read_class_folders
from omnictl.data.images.manifest import IMAGES, ImageManifest, ImageRow, read_manifest
from omnictl.data.manifest.layouts import Layout, choose_layout, find_manifest_files, find_manifests, read_columns
from omnictl.data.manifest.rows import missing_path_error
from omnictl.data.manifest.tables import guess_column
from omnictl.data.packed.unpack import find_packed, require_kind, unpack

RECOGNISED = """\
manifest: metadata.csv, metadata.jsonl, manifest.csv or manifest.jsonl with image,label|caption[,split]
class folders: CLASS/*.jpg, or train/CLASS/*.jpg, val/CLASS/*.jpg and test/CLASS/*.jpg (or .png, .webp, .gif, .bmp)
COCO captions: annotations/captions_train2017.json and so on, and train2017/*.jpg
COCO objects: annotations/instances_train2017.json and so on, or train/_annotations.coco.json beside the images
YOLO: data.yaml, classes.txt or obj.names, and a .txt file for each image, beside it or in labels/ instead of images/
packed: .parquet or .arrow files (Hugging Face datasets) or .tar files (WebDataset) with images and labels or captions"""

logger = logging.getLogger(__name__)


def find_images(path: Path) -> ImageManifest:
    """The images of a manifest file, or of a folder whose layout is recognised.

    Raises:
        DataError: no such path, no layout or several at once, an index that cannot be read, or no usable row.
    """
    if not path.exists():
        raise missing_path_error(path)
    packed = find_packed(path) if not path.is_dir() or not _has_layout(path) else None
    if packed is not None:
        unpacked = unpack(require_kind(packed, "images"))
        return IMAGES.collect(path, unpacked.folder, unpacked.records)
    if not path.is_dir():
        return read_object_index(path) if is_object_index(path) else read_manifest(path)
    files = find_manifest_files(path)
    layouts = [*find_manifests(files, IMAGES), *_annotated(path)]
    if not layouts:  # with an index, folders are but where its images lie
        misnamed = next((file for file in files if _names_images(file) or len(find_class_names(path)) < 2), None)
        if misnamed is not None:
            return read_manifest(misnamed)  # says what its header lacks
        if find_class_names(path) or find_loose_images(path):
            return read_class_folders(path)
    return choose_layout(path, layouts, "images", RECOGNISED).read()


def _has_layout(folder: Path) -> bool:
    """Whether a folder has images beside what packed files may lie there, such as the archive that it came in."""
    manifests = find_manifests(find_manifest_files(folder), IMAGES)
    return any(True for _ in manifests) or has_annotations(folder) or bool(find_class_names(folder))


def has_annotations(folder: Path) -> bool:
    """Whether the images of a folder have captions or objects in files of COCO or YOLO."""
    return any(True for _ in _annotated(folder))


def _annotated(folder: Path) -> Iterator[Layout[ImageRow]]:
    captions, objects = caption_indexes(folder), object_indexes(folder)
    if captions:

        def read_sentences() -> ImageManifest:
            if objects:
                logger.info("%s: read for its captions; for the categories of its objects, name %s", folder, objects[0])
            return read_captions(folder, captions)

        yield Layout("COCO captions", captions[0], read_sentences)
    elif objects:
        yield Layout("COCO objects", objects[0], partial(read_objects, folder, objects))
    elif (names := find_yolo(folder)) is not None:
        yield Layout("YOLO", names, partial(read_yolo, folder, names))


def _names_images(file: Path) -> bool:
    """Whether a table has a column of what seem to be images, under another name."""
    return guess_column(IMAGES.needed[0], read_columns(file, IMAGES), IMAGES.needed) is not None
