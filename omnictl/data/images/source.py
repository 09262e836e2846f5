"""Opens the images that `data.source` names: TinyWorld or files."""

import hashlib
from pathlib import Path

from omnictl.data.images.corpus import ImageCorpus, ImageDataConfig
from omnictl.data.images.file_corpus import ImageFiles
from omnictl.data.images.layouts import find_images
from omnictl.data.images.tinyworld import TinyWorldImages
from omnictl.data.manifest.source import source_path, tinyworld_seed


def fingerprint_images(corpus: ImageCorpus) -> str:
    """SHA-256 over what a corpus says and shows, as far as its rows and sizes tell, and how it is split."""
    if isinstance(corpus, ImageFiles):
        return corpus.contents_fingerprint
    return hashlib.sha256(repr(corpus).encode()).hexdigest()


def open_images(config: ImageDataConfig, cache: Path) -> ImageCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldImages(seed, config.num_eval_images, config.top1 or ("shape", "colour"))
    return ImageFiles(find_images(source_path(config.source)), config, cache)
