"""Which values the attributes of pictures have, and which labels training makes nothing of."""

from collections.abc import Iterable, Mapping

Labels = Mapping[str, str]
"""A picture's values by the names of the attributes."""


def label_values(labels: Iterable[Labels]) -> dict[str, tuple[str, ...]]:
    """The attributes as they first appear, each with its values in the order of their numbers: by size, or by the alphabet."""
    values: dict[str, set[str]] = {}
    for each in labels:
        for name, value in each.items():
            values.setdefault(name, set()).add(value)
    return {name: tuple(sorted(values[name], key=_natural)) for name in values}


def _natural(value: str) -> tuple[int, int, str]:
    """Numbers by size, before words."""
    return (0, int(value), value) if value.isdecimal() else (1, 0, value)


def label_flaw(labels: Labels, known: Mapping[str, tuple[str, ...]]) -> str | None:
    """Why a picture's labels cannot be used, if only the `known` values can be told."""
    for name, value in labels.items():
        if name not in known:
            return f"the attribute {name!r} is in no row of the training split"
        if value not in known[name]:
            return f"the {name} {value!r} is in no row of the training split"
    return None
