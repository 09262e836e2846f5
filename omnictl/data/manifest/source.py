"""What `data.source` may say besides a path: `tinyworld`, or `tinyworld:SEED` for another draw."""

from difflib import get_close_matches
from pathlib import Path

from omnictl.errors import DataError

TINYWORLD_SEED = 1


def tinyworld_name(seed: int) -> str:
    """The source that draws TinyWorld of a seed again."""
    return "tinyworld" if seed == TINYWORLD_SEED else f"tinyworld:{seed}"


def tinyworld_seed(source: str) -> int | None:
    """The seed of `tinyworld` or `tinyworld:SEED`; None for a source that is a path.

    Raises:
        DataError: no such path, and it looks like `tinyworld` misspelled; or a seed that is not a number.
    """
    word, colon, seed = source.partition(":")
    if word == "tinyworld":
        return _seed(seed) if colon else TINYWORLD_SEED
    if not Path(source).expanduser().exists() and get_close_matches(word.lower(), ["tinyworld"], cutoff=0.75):
        raise DataError(
            f"no such file or folder: {source}",
            where="data.source",
            fix=f"did you mean --data tinyworld{colon}{seed}?",
        )
    return None


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise DataError(
            f"the seed of tinyworld should be a whole number from 0 up, found {text!r}",
            where="data.source",
            fix="--data tinyworld:7",
        )
    return int(text)
