"""One look at every image file before it is trained on: which cannot be read, and why. The verdicts are cached."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from omnictl.data.images.files.decoder import read_image
from omnictl.data.manifest.cache import flush, read_or_build
from omnictl.data.manifest.thread_pool import measure_in_parallel
from omnictl.errors import DataError
from omnictl.progress import log_progress

VERSION = 1
"""Of what is accepted; a change makes old verdicts worthless."""

_FILE = "flaws.json"


def find_broken_images(files: Sequence[Path], cache: Path) -> dict[Path, str]:
    """Why a file cannot be decoded, for each that cannot be.

    Args:
        files: the images; what is judged again is what has another size or time than before.
        cache: folder of the cache.

    Raises:
        DataError, DiskFull: the cache cannot be written.
    """
    different = list(dict.fromkeys(files))
    digest = hashlib.sha256(repr(VERSION).encode())
    for file in different:
        stat = file.stat() if file.exists() else None
        digest.update(repr((str(file), stat and (stat.st_size, stat.st_mtime_ns))).encode())

    def write(folder: Path) -> None:
        with (folder / _FILE).open("w", encoding="utf-8") as out:
            json.dump(_check_all(different), out)
            flush(out)

    flaws = read_or_build(cache / "pictures" / digest.hexdigest(), _read, write)
    return {different[int(number)]: flaw for number, flaw in flaws.items()}


def _read(folder: Path) -> dict[str, str] | None:
    try:
        flaws = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return flaws if isinstance(flaws, dict) else None


def _check_all(files: Sequence[Path]) -> dict[str, str]:
    verdicts = log_progress(measure_in_parallel(files, _check), "looking at images", len(files))
    return {str(number): verdict.message for number, verdict in enumerate(verdicts) if isinstance(verdict, DataError)}


def _check(file: Path) -> None:
    read_image(file)
