"""Images as they come: manifests, class folders and COCO captions, all judged by the rules of `manifest`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from omnictl.data.images.class_folders import find_class_names, find_loose_images, read_class_folders
from omnictl.data.images.coco import coco_indexes, read_coco
from omnictl.data.images.manifest import IMAGES, ImageManifest, ImageRow, read_manifest
from omnictl.data.manifest.layouts import Layout, choose_layout, find_manifest_files, find_manifests, read_columns
from omnictl.data.manifest.rows import missing_path_error
from omnictl.data.manifest.tables import guess_column
from omnictl.data.packed.unpack import find_packed, require_kind, unpack

RECOGNISED = """\
manifest: metadata.csv, metadata.jsonl, manifest.csv or manifest.jsonl with image,label|caption[,split]
class folders: CLASS/*.jpg, or train/CLASS/*.jpg, val/CLASS/*.jpg and test/CLASS/*.jpg (or .png, .webp, .gif, .bmp)
COCO captions: annotations/captions_train2017.json and so on, and train2017/*.jpg
packed: .parquet or .arrow files (Hugging Face datasets) or .tar files (WebDataset) with images and labels or captions"""


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
        return read_manifest(path)
    files = find_manifest_files(path)
    layouts = [*find_manifests(files, IMAGES), *_coco(path)]
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
    return any(True for _ in manifests) or bool(coco_indexes(folder)) or bool(find_class_names(folder))


def _coco(folder: Path) -> Iterator[Layout[ImageRow]]:
    indexes = coco_indexes(folder)
    if indexes:
        yield Layout("COCO captions", indexes[0], partial(read_coco, folder, indexes))


def _names_images(file: Path) -> bool:
    """Whether a table has a column of what seem to be images, under another name."""
    return guess_column(IMAGES.needed[0], read_columns(file, IMAGES), IMAGES.needed) is not None
