"""What `data.source` may say besides a path: `tinyworld`, or `tinyworld:SEED` for another draw."""

from difflib import get_close_matches
from pathlib import Path

from omnictl.errors import DataError

TINYWORLD_SEED = 1


def tinyworld_name(seed: int) -> str:
    """The source that draws TinyWorld of a seed again."""
    return "tinyworld" if seed == TINYWORLD_SEED else f"tinyworld:{seed}"


def names_tinyworld(source: str) -> bool:
    """Whether a source is written as TinyWorld's, whatever its seed; paths are not looked at."""
    return source.partition(":")[0] == "tinyworld"


def tinyworld_seed(source: str) -> int | None:
    """The seed of `tinyworld` or `tinyworld:SEED`; None for a source that is a path.

    Raises:
        DataError: no such path, and it looks like `tinyworld` misspelled; or a seed that is not a number.
    """
    word, colon, seed = source.partition(":")
    if word == "tinyworld":
        return _seed(seed) if colon else TINYWORLD_SEED
    if not source_path(source).exists() and get_close_matches(word.lower(), ["tinyworld"], cutoff=0.75):
        raise DataError(
            f"no such file or folder: {source}",
            where="data.source",
            fix=f"did you mean --data tinyworld{colon}{seed}?",
        )
    return None


def source_path(source: str) -> Path:
    """The path that a source names, whether or not something is there.

    Raises:
        DataError: no path can be written so.
    """
    problem = "is empty" if not source.strip() else None
    try:
        path = Path(source).expanduser()
        path.exists()
    except RuntimeError:
        problem = f"{source.partition('/')[0]!r} names a user that this machine does not have"
    except (OSError, ValueError) as error:  # a name too long, a NUL
        problem = f"{source[:60]!r} … cannot be a path: {error.strerror if isinstance(error, OSError) else error}"
    if problem is not None:
        raise DataError(f"the source of the data {problem}", where="data.source", fix="give --data the path of a file or a folder")
    return path


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        limit = ", of at most 18 digits" if len(text) > 18 else ""
        raise DataError(
            f"the seed of tinyworld should be a whole number from 0 up{limit}, found {text[:40]!r}",
            where="data.source",
            fix="--data tinyworld:7",
        )
    return int(text)
