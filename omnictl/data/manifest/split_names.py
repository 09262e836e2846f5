"""Splits that names of files and folders say: `train.jsonl`, `validation/`, `c4-train.00001.json.gz`, `wikitext2_test.txt`."""

import re
from pathlib import Path, PurePath

from omnictl.config.split import Split
from omnictl.data.manifest.compression import PACKED_SUFFIXES
from omnictl.data.manifest.rows import parse_split

_WORD = re.compile(r"[^\W\d_]+")
_MOST_SUFFIXES = 2


def split_of_name(name: str) -> Split | None:
    """The split that the first or the last word of a name says, if one does: numbers and what stands behind a dot are no words."""
    path = PurePath(name)
    for _ in range(_MOST_SUFFIXES):
        is_number = path.suffix[1:].isdigit()
        if path.suffix and (path.suffix.lower() in PACKED_SUFFIXES or not is_number):
            path = PurePath(path.stem)
    words = [word for word in _WORD.findall(path.name) if word.lower() != "of"]
    return next((split for word in (words[:1] + words[-1:]) if (split := parse_split(word)) is not None), None)


def split_of_path(file: Path, folder: Path) -> Split | None:
    """The split that a file's name says, else the nearest folder that says one, below the folder that was given."""
    parts = file.relative_to(folder).parts
    of_folders = (parse_split(part) or split_of_name(part) for part in reversed(parts[:-1]))
    return split_of_name(parts[-1]) or next((split for split in of_folders if split is not None), None)
