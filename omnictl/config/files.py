"""Config files in JSON, TOML and YAML, with the line that each key stands on.

The same value means the same in all three: YAML is read with the plain scalars of YAML 1.2 (`1e-3` is a number, `off`
is text, `010` is ten). Left out on purpose: YAML's anchors and aliases, because a config is a tree.
"""

import errno
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import yaml

from omnictl.errors import ConfigError
from omnictl.regular_files import MIB, read_regular

Key: TypeAlias = tuple[str, ...]
Lines: TypeAlias = dict[Key, int]

LARGEST_CONFIG = 4 * MIB

DEEPEST_CONFIG = 32
"""Levels of keys; the configs here have five."""

# Above this a float no longer holds every whole number.
_LARGEST_EXACT = 2**53


class ConfigFile(NamedTuple):
    """The content of a config file.

    Args:
        path: the file as it was named.
        values: its nested values; every key is a string.
        lines: the 1-based line of each key, in the order of the file; the items of a list count as keys "0", "1", ….
            In TOML the keys inside an inline table are left to the line of the table.
    """

    path: Path
    values: dict[str, object]
    lines: Lines


class _FormatError(Exception):
    """A text that is not in its format."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def read_config(path: Path) -> ConfigFile:
    """Reads a `.json`, `.toml`, `.yaml` or `.yml` file.

    Raises:
        ConfigError: the file cannot be read, is not valid in its format, repeats a key, or is no mapping of keys.
    """
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise ConfigError(
            f"the config file ends in '{path.suffix}', expected one of {', '.join(_FORMATS)}",
            fix="rename the file after the format that it is written in",
            where=str(path),
        )
    name, parse = form
    text = _read_text(path)
    try:
        values, lines = parse(text)
    except _FormatError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise ConfigError(f"not valid {name}: {error.problem}", fix="correct the file there", where=where) from error
    except RecursionError as error:
        raise ConfigError(f"not valid {name}: nested too deeply", fix="flatten the file", where=str(path)) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"found {_kind(values)} at the top of the file, expected a mapping of keys to values",
            fix="write the file as keys and values; `omnictl config schema STAGE` lists the keys",
            where=str(path),
        )
    if any(len(key) > DEEPEST_CONFIG for key in lines):
        raise ConfigError(f"not valid {name}: nested too deeply", fix="flatten the file", where=str(path))
    return ConfigFile(path, values, lines)


def read_number(text: str) -> int | float:
    """Reads a number written with a point or an exponent; `1e4` is a whole number, so that steps may be given so."""
    value = float(text)
    whole = "." not in text and value.is_integer() and abs(value) <= _LARGEST_EXACT
    return int(value) if whole else value


def _read_text(path: Path) -> str:
    try:
        text = read_regular(path, LARGEST_CONFIG).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError("no such config file", fix="check the path given to --config", where=str(path)) from error
    except IsADirectoryError as error:
        raise ConfigError(
            "found a directory, expected a config file", fix="name a file in it with --config", where=str(path)
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the config file cannot be read: {error.strerror}",
            fix="check the file's permissions" if error.errno in (errno.EACCES, errno.EPERM) else "name a file of keys and values",
            where=str(path),
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"found bytes that are not UTF-8 text (at byte {error.start}), expected a text file",
            fix="save the file as UTF-8",
            where=str(path),
        ) from error
    if not text.strip():
        raise ConfigError("the config file is empty", fix="write keys and values into it", where=str(path))
    return text


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else f"the single value {value!r}"


def _note_line(lines: Lines, key: Key, line: int) -> None:
    if key in lines:
        raise _FormatError(f"the key '{'.'.join(key)}' is given twice, first on line {lines[key]}", line)
    lines[key] = line


# JSON. The scanner runs only on text that the parser has taken, so it need not judge it again.

_JSON_TOKEN = re.compile(r'(?P<key>"(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|(?P<mark>[{}\[\],])')


def _parse_json(text: str) -> tuple[object, Lines]:
    try:
        values = json.loads(text, parse_float=read_number)
    except json.JSONDecodeError as error:
        raise _FormatError(error.msg, error.lineno) from error
    except ValueError as error:
        raise _FormatError(str(error)) from error
    return values, _json_lines(text)


def _json_lines(text: str) -> Lines:
    lines: Lines = {}
    place: list[str | int] = []  # the key or index reached in each open object or list
    line, scanned = 1, 0
    for token in _JSON_TOKEN.finditer(text):
        line += text.count("\n", scanned, token.start())
        scanned = token.start()
        if token["key"]:
            place[-1] = json.loads(token["key"])
            _note_line(lines, tuple(map(str, place)), line)
        elif token["mark"] in ("{", "["):
            place.append("" if token["mark"] == "{" else 0)
        elif token["mark"] in ("}", "]"):
            place.pop()
        elif token["mark"] == "," and isinstance(place[-1], int):
            place[-1] += 1
    return lines


# YAML


class _YamlLoader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2 does, and takes no aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 — PyYAML's own name for its table, replaced as a whole

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _FormatError("found an alias (*), expected the value itself", event.start_mark.line + 1)
        return super().compose_node(parent, index)


def _add_scalar(tag: str, pattern: str, first: str, read: Callable[[str], object]) -> None:
    tag = f"tag:yaml.org,2002:{tag}"
    # An empty scalar is looked up under "".
    _YamlLoader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), list(first) or [""])
    _YamlLoader.add_constructor(tag, lambda _, node: read(node.value))


_DIGITS = "[0-9][0-9_]*"
_add_scalar("null", "", "", lambda _: None)
_add_scalar("null", "~|null|Null|NULL", "~nN", lambda _: None)
_add_scalar("bool", "true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true")
_add_scalar("int", f"[-+]?{_DIGITS}", "-+0123456789", int)
_add_scalar("float", rf"[-+]?(?:\.[0-9]+|{_DIGITS}(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", read_number)


def _parse_yaml(text: str) -> tuple[object, Lines]:
    lines: Lines = {}
    try:
        loader = _YamlLoader(text)
        root = loader.get_single_node()
        # A file of comments alone has no root; like such a TOML file it sets nothing.
        return ({} if root is None else _yaml_value(loader, root, (), lines)), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise _FormatError(said, mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise _FormatError(error.reason, text.count("\n", 0, error.position) + 1) from error
    except ValueError as error:  # such as a number with thousands of digits
        raise _FormatError(str(error)) from error


def _yaml_value(loader: _YamlLoader, node: yaml.Node, key: Key, lines: Lines) -> object:
    if isinstance(node, yaml.ScalarNode):
        value: object = loader.construct_object(node)
        return value
    if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
        raise _FormatError(f"found the tag {node.tag}, expected a plain value", node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_yaml_value(loader, item, (*key, str(i)), lines) for i, item in enumerate(node.value)]
    values = {}
    for name, item in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            raise _FormatError("found a list or mapping as a key, expected a word", line)
        # The key as it is written: `1` and `null` are names here, as they are in JSON and TOML.
        _note_line(lines, (*key, name.value), line)
        values[name.value] = _yaml_value(loader, item, (*key, name.value), lines)
    return values


# TOML. Again the scanner runs only on text that the parser has taken.

_TOML_TOKEN = re.compile(
    r'''(?P<string>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')'''
    r"""|\#[^\n]*|(?P<word>[A-Za-z0-9_-]+)|(?P<mark>[\[\]{}=\n])""",
    re.DOTALL,
)


def _parse_toml(text: str) -> tuple[object, Lines]:
    try:
        values = tomllib.loads(text, parse_float=read_number)
    except tomllib.TOMLDecodeError as error:
        problem, at, place = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", place) if at else None
        last_line = text.rstrip().count("\n") + 1
        raise _FormatError(problem, int(line[1]) if line else last_line) from error
    except ValueError as error:
        raise _FormatError(str(error)) from error
    return values, _toml_lines(text)


def _toml_lines(text: str) -> Lines:
    lines: Lines = {}
    line, scanned = 1, 0
    table: Key = ()
    num_tables: dict[Key, int] = {}
    names: list[str] = []  # the dotted name collected so far in this statement
    part = "name"  # of the statement: a "name" before its "=", a "header" in brackets, or a "value"
    depth = 0
    for token in _TOML_TOKEN.finditer(text):
        line += text.count("\n", scanned, token.start())
        scanned = token.start()
        mark = token["mark"]
        if part != "value" and (token["word"] or token["string"]):
            names.append(token["word"] or tomllib.loads(f"name = {token['string']}")["name"])
        elif mark == "=" and part == "name":
            _note_first_lines(lines, (*table, *names), line)
            part = "value"
        elif mark in ("[", "{"):
            depth += 1
            part = "header" if part == "name" else part
        elif mark in ("]", "}"):
            if part == "header" and names:
                table, names = tuple(names), []
                is_array = depth == 2
                _note_first_lines(lines, table, line)
                if is_array:
                    num_tables[table] = num_tables.get(table, -1) + 1
                    table = (*table, str(num_tables[table]))
                    _note_first_lines(lines, table, line)
            depth -= 1
        elif mark == "\n" and depth == 0:
            names, part = [], "name"
    return lines


def _note_first_lines(lines: Lines, key: Key, line: int) -> None:
    """Notes a dotted key and the tables that it opens; a table may be opened more than once, and the first counts."""
    for length in range(1, len(key) + 1):
        lines.setdefault(key[:length], line)


_FORMATS: dict[str, tuple[str, Callable[[str], tuple[object, Lines]]]] = {
    ".json": ("JSON", _parse_json),
    ".toml": ("TOML", _parse_toml),
    ".yaml": ("YAML", _parse_yaml),
    ".yml": ("YAML", _parse_yaml),
}
