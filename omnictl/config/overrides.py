"""`--set a.b=VALUE`: one value laid over the config."""

import json
from typing import NamedTuple, NoReturn

from omnictl.config.files import Key, read_number
from omnictl.errors import ConfigError


class Override(NamedTuple):
    """A parsed `--set`: its text as it was given, the key path and the value."""

    text: str
    key: Key
    value: object

    @property
    def where(self) -> str:
        """The flag as the user wrote it."""
        return f"--set {self.text}"

    def as_mapping(self) -> dict[str, object]:
        """The value under its key path: `a.b=1` is `{"a": {"b": 1}}`."""
        inner: object = self.value
        for name in reversed(self.key[1:]):
            inner = {name: inner}
        return {self.key[0]: inner}


def parse_override(text: str) -> Override:
    """Reads `a.b=VALUE`: the value as JSON, and as plain text where it is not JSON.

    Raises:
        ConfigError: there is no `=`, or a name in the key is empty.
    """
    name, equals, value = text.partition("=")
    key = tuple(part.strip() for part in name.split("."))
    if not equals:
        raise _syntax_error(text, "found no '=', expected key=value")
    if not all(key):
        raise _syntax_error(text, f"found the key '{name.strip()}', expected names joined by dots, as train.lr")
    return Override(text, key, _read_value(value.strip()))


def _syntax_error(text: str, message: str) -> ConfigError:
    return ConfigError(message, fix="write it as --set key=value, as in --set train.lr=1e-3", where=f"--set {text}")


def _read_value(text: str) -> object:
    try:
        value: object = json.loads(text, parse_float=read_number, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text
    return value


def _not_json(name: str) -> NoReturn:
    # Python reads NaN and Infinity as numbers; JSON knows neither.
    raise ValueError(name)
