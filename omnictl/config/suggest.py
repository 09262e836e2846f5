"""Suggests the valid name that a mistyped one was probably meant to be."""

import difflib
from collections.abc import Sequence

_MAX_SUGGESTIONS = 3


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The most similar name, an abbreviation included (`learning_rate` and `lr`); None where nothing is near."""
    similar = difflib.get_close_matches(name.lower(), names, n=1)
    short = [other for other in names if _initials(name) == other or _initials(other) == name]
    return next(iter([*similar, *short]), None)


def suggest_keys(parent: str, name: str, siblings: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The dotted keys that `parent.name` may stand for: the nearest sibling, else keys elsewhere.

    Args:
        parent: the dotted key of the enclosing config, "" at the top.
        name: the unknown name.
        siblings: the valid names under the parent.
        keys: the dotted keys of the whole config.
    """
    sibling = nearest(name, siblings)
    if sibling is not None:
        return [f"{parent}.{sibling}" if parent else sibling]
    last_names = list(dict.fromkeys(key.rpartition(".")[2] for key in keys))
    meant = nearest(name, last_names)
    return [key for key in keys if key.rpartition(".")[2] == meant][:_MAX_SUGGESTIONS]


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("_") if word) if "_" in name else ""
