"""Every setting of a config class: its key, type, bounds, default and meaning, for pages and tables.

Leaves out what no declaration says: how settings depend on one another, which validation explains when it refuses them.
"""

import inspect
import json
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from omnictl.config.base import Config
from omnictl.config.serialization import to_dict
from omnictl.config.union_variants import nested_models

REQUIRED = "required"
"""Stands for the default of a setting that has none."""

TYPES: dict[object, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    NoneType: "null",
}


class Setting(NamedTuple):
    """One key that holds a value."""

    key: str
    """Dotted, as `--set` takes it; `[]` stands for any place in a list."""
    type: str
    bounds: str
    """In words; empty without any."""
    default: str
    """As JSON, or `REQUIRED`."""
    description: str


class SettingGroup(NamedTuple):
    """The settings that are declared together."""

    key: str
    """What their keys begin with; empty at the top."""
    summary: str
    settings: list[Setting]


def setting_groups(kind: type[Config]) -> list[SettingGroup]:
    """All settings of a config class in the order of its fields, each group before those inside of it."""
    return list(_groups(kind, "", _defaults_of(kind)))


def _groups(kind: type[Config], key: str, defaults: dict[str, Any]) -> Iterator[SettingGroup]:
    below = f"{key}." if key else ""
    fields = kind.model_fields
    plain = [_setting(f"{below}{name}", field, defaults) for name, field in fields.items() if not _holds_config(field)]
    lists = [_setting(f"{below}{name}", field, defaults) for name, field in fields.items() if _is_list(field)]
    yield SettingGroup(key, inspect.cleandoc(kind.__doc__ or "").partition("\n")[0], [*plain, *lists])
    for name, field in fields.items():
        for inner in nested_models(field.annotation):
            place = f"{below}{name}[]" if _is_list(field) else f"{below}{name}"
            given = defaults.get(name)
            yield from _groups(inner, place, given if isinstance(given, dict) else _defaults_of(inner))


def _setting(key: str, field: FieldInfo, defaults: dict[str, Any]) -> Setting:
    name = key.rpartition(".")[2]
    default = json.dumps(defaults[name], ensure_ascii=False) if name in defaults else REQUIRED
    return Setting(key, _type(field.annotation), _bounds(field.metadata), default, field.description or "")


def _defaults_of(kind: type[Config]) -> dict[str, Any]:
    """What holds where nothing is set, by name; fields without a default are left out."""
    return to_dict(kind.model_construct())


def _holds_config(field: FieldInfo) -> bool:
    return bool(nested_models(field.annotation))


def _is_list(field: FieldInfo) -> bool:
    """Whether a field holds any number of configs."""
    return _holds_config(field) and get_origin(field.annotation) in (tuple, list)


def _type(annotation: object) -> str:
    """A type in words; bounds of parts, such as the members of a union, stand behind them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in TYPES:
        return TYPES[annotation]
    if origin is Literal:
        return _either([f"`{json.dumps(value) if not isinstance(value, str) else value}`" for value in arguments])
    if origin in (Union, UnionType):
        return _either([_type(argument) for argument in arguments])
    if origin is Annotated:
        return " ".join(part for part in (_type(arguments[0]), _bounds(_flatten_metadata(arguments[1:]))) if part)
    if origin in (tuple, list):
        return _list_type([argument for argument in arguments if argument is not Ellipsis], is_open=Ellipsis in arguments)
    if isinstance(origin, type) and issubclass(origin, dict):
        return f"object of {_type(arguments[1])} by {_type(arguments[0])}"
    return "object" if nested_models(annotation) else getattr(annotation, "__name__", str(annotation))


def _list_type(members: Sequence[object], *, is_open: bool) -> str:
    words = [_type(member) for member in members]
    if is_open or len(set(words)) == 1:
        return f"list of {words[0]}" if is_open else f"list of {len(words)}: {words[0]} each"
    return f"list of {len(words)}: {', '.join(words)}"


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _flatten_metadata(metadata: Sequence[object]) -> list[object]:
    """Constraints, also those that stand within a `Field(…)`."""
    return [one for part in metadata for one in (part.metadata if isinstance(part, FieldInfo) else [part])]


SIGNS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "at least {} long", "max_length": "at most {} long"}


def _bounds(metadata: Sequence[object]) -> str:
    limits = {name: getattr(one, name) for one in metadata for name in SIGNS if getattr(one, name, None) is not None}
    return ", ".join(SIGNS[name].format(_number(limits[name])) for name in SIGNS if name in limits)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
