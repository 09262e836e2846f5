"""A config as plain data: for files, for tables and for comparison."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from omnictl.config.base import Config


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested values that JSON can hold, in field order."""
    return config.model_dump(mode="json")


def to_json(config: Config) -> str:
    """The config as the text of a config file that resolves to it again."""
    return json.dumps(to_dict(config), indent=2, ensure_ascii=False) + "\n"


def flatten(config: Config) -> dict[str, object]:
    """The single values and lists of a config by dotted key, as `--set` names them, in field order."""
    return dict(_leaves("", to_dict(config)))


def diff(a: Config, b: Config) -> list[tuple[str, object, object]]:
    """The dotted keys whose values differ, in field order, each with its value in `a` and in `b`.

    A key that only one of them has (variants of a union) stands with None for the other.
    """
    return list(_differences("", to_dict(a), to_dict(b)))


def schema(cls: type[Config]) -> dict[str, Any]:
    """The JSON Schema of a config class."""
    return cls.model_json_schema()


def _leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    # An empty mapping is a value: it would vanish otherwise.
    if not isinstance(value, Mapping) or not value:
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{name}" if key else name, inner)


def _differences(key: str, a: object, b: object) -> Iterator[tuple[str, object, object]]:
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        if a != b:
            yield key, a, b
        return
    for name in dict.fromkeys([*a, *b]):
        yield from _differences(f"{key}.{name}" if key else name, a.get(name), b.get(name))
