"""How a run's record names other runs: by their place in the folder of all runs, so that this folder can be moved.

Records of older versions have absolute paths; where these lead nowhere any more, their last parts are looked for below the folder.
"""

from pathlib import Path


def place_in(root: Path, path: Path) -> str:
    """How to write a path into a record: relative to the folder of all runs if it lies there, else absolute."""
    whole, below = path.absolute(), root.absolute()
    return whole.relative_to(below).as_posix() if whole.is_relative_to(below) else str(whole)


def find_place(root: Path, place: str) -> Path:
    """The absolute path that a record means; it may lead nowhere."""
    path = Path(place)
    if not path.is_absolute():
        return root.absolute() / path
    if path.exists():
        return path
    endings = (root.absolute().joinpath(*path.parts[start:]) for start in range(1, len(path.parts) - 1))
    return next((moved for moved in endings if moved.exists()), path)
