"""From layers to one valid config: preset or field defaults <- file <- `--set`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from omnictl.config.base import Config
from omnictl.config.files import ConfigFile, Key, read_config
from omnictl.config.overrides import Override, parse_override
from omnictl.config.union_variants import lay_over
from omnictl.config.validation_errors import Problem, explain
from omnictl.errors import ConfigError

C = TypeVar("C", bound=Config)


class _Place(NamedTuple):
    """Where a value was given; places sort in the order of the layers and, within one, as they were written."""

    layer: int  # 0 file, 1 --set
    position: int
    where: str


class _Line(NamedTuple):
    """One line of the error: a problem and where the value behind it was given, if anywhere."""

    place: _Place | None
    text: str

    def __str__(self) -> str:
        return f"{self.place.where}: {self.text}" if self.place else self.text


def resolve(cls: type[C], *, preset: C | None, file: Path | ConfigFile | None = None, overrides: Sequence[str] = ()) -> C:
    """Lays a config file and `--set` texts over a preset and validates the result.

    Args:
        cls: the config class.
        preset: the lowest layer; None for the field defaults of `cls`.
        file: a JSON, TOML or YAML file, or what was read from one.
        overrides: texts `a.b=VALUE`; a later one wins.

    Raises:
        ConfigError: the file cannot be read; or there are unknown keys, wrong values or malformed texts, all of them
            in one error, a line each.
    """
    config_file = read_config(file) if isinstance(file, Path) else file
    parsed, lines = _parse_all(overrides)

    user: dict[str, object] = config_file.values if config_file else {}
    for override in parsed:
        user = lay_over([], user, override.as_mapping())
    # A class may have required fields, so its defaults are taken without validating them.
    base = (cls.model_construct() if preset is None else preset).model_dump(mode="json")
    values = lay_over([cls], base, user)

    try:
        # As JSON, so that strictness ("5" is not 5, true is not 1) still lets a list be a tuple and a text a path.
        config = cls.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        places = _places(config_file, parsed)
        lines += [_line(problem, places) for problem in explain(error, cls, values)]
    if lines:
        raise _all_at_once(lines)
    return config


def _parse_all(texts: Sequence[str]) -> tuple[list[Override], list[_Line]]:
    overrides, malformed = [], []
    for position, text in enumerate(texts):
        try:
            overrides.append(parse_override(text))
        except ConfigError as error:
            malformed.append(_Line(_Place(1, position, f"--set {text}"), error.message))
    return overrides, malformed


def _places(file: ConfigFile | None, overrides: Sequence[Override]) -> dict[Key, _Place]:
    """Where each key that the user gave got its value."""
    places: dict[Key, _Place] = {}
    if file is not None:
        places[()] = _Place(0, 0, str(file.path))
        places |= {key: _Place(0, line, f"{file.path}:{line}") for key, line in file.lines.items()}
    for position, override in enumerate(overrides):
        place = _Place(1, position, override.where)
        if not isinstance(override.value, dict):
            places = {key: at for key, at in places.items() if key[: len(override.key)] != override.key}
        places |= dict.fromkeys(_keys_in(override.key, override.value), place)
    return places


def _keys_in(key: Key, value: object) -> list[Key]:
    inner = value.items() if isinstance(value, dict) else ()
    return [key, *(deeper for name, item in inner for deeper in _keys_in((*key, name), item))]


def _line(problem: Problem, places: dict[Key, _Place]) -> _Line:
    find = _place_of_model if problem.of_model else _place_of_value
    return _Line(find(problem.key, places), f"{'.'.join(problem.key) or 'config'}: {problem.text}")


def _place_of_value(key: Key, places: dict[Key, _Place]) -> _Place | None:
    """Where the key was given; else what was given nearest to it, in the config that it is missing from."""
    for length in range(len(key), 0, -1):
        inside = [inner for inner in places if inner[:length] == key[:length]]
        if inside:
            return places.get(key[:length], places[inside[0]])
    return places.get(())


def _place_of_model(key: Key, places: dict[Key, _Place]) -> _Place | None:
    """What was set inside a config that does not hold together: any of the `--set` in it may be the reason."""
    inside = sorted({place for inner, place in places.items() if inner[: len(key)] == key})
    flags = [place for place in inside if place.layer == 1]
    if flags:
        return flags[0]._replace(where=" ".join(place.where for place in flags))
    return inside[0] if inside else _place_of_value(key, places)


def _all_at_once(lines: list[_Line]) -> ConfigError:
    lines = sorted(lines, key=lambda line: line.place or _Place(0, 0, ""))
    first = lines[0].place
    return ConfigError(
        "\n".join(map(str, lines)),
        fix="correct each of them; `omnictl config schema STAGE` lists the keys and their types",
        where=first.where if first else None,
    )
