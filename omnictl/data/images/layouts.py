"""Pictures as they come: manifests, class folders and COCO captions, all judged by the rules of `manifest`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from omnictl.data.images.class_folders import class_names, loose_pictures, read_class_folders
from omnictl.data.images.coco import coco_indexes, read_coco
from omnictl.data.images.manifest import IMAGES, ImageManifest, ImageRow, read_manifest
from omnictl.data.manifest.layouts import Layout, columns_of, manifest_files, manifests, the_only
from omnictl.data.manifest.rows import no_such
from omnictl.data.manifest.tables import meant_by

RECOGNISED = """\
manifest: metadata.csv, metadata.jsonl, manifest.csv or manifest.jsonl with image,label|caption[,split]
class folders: CLASS/*.jpg, or train/CLASS/*.jpg, val/CLASS/*.jpg and test/CLASS/*.jpg (or .png, .webp, .gif, .bmp)
COCO captions: annotations/captions_train2017.json and so on, and train2017/*.jpg"""


def find_images(path: Path) -> ImageManifest:
    """The pictures of a manifest file, or of a folder whose layout is recognised.

    Raises:
        DataError: no such path, no layout or several at once, an index that cannot be read, or no usable row.
    """
    if not path.exists():
        raise no_such(path)
    if not path.is_dir():
        return read_manifest(path)
    files = manifest_files(path)
    found = [*manifests(files, IMAGES), *_coco(path)]
    if not found:  # with an index, folders are but where its pictures lie
        misnamed = next((file for file in files if _names_pictures(file) or len(class_names(path)) < 2), None)
        if misnamed is not None:
            return read_manifest(misnamed)  # says what its header lacks
        if class_names(path) or loose_pictures(path):
            return read_class_folders(path)
    return the_only(path, found, "pictures", RECOGNISED).read()


def _coco(folder: Path) -> Iterator[Layout[ImageRow]]:
    indexes = coco_indexes(folder)
    if indexes:
        yield Layout("COCO captions", indexes[0], partial(read_coco, folder, indexes))


def _names_pictures(file: Path) -> bool:
    """Whether a table has a column of what seem to be pictures, under another name."""
    return meant_by(IMAGES.needed[0], columns_of(file, IMAGES), IMAGES.needed) is not None
