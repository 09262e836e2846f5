"""Writes manifests and corpus folders for tests, and reads what is said of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from omnictl.data.manifest.rows import BrokenRow, Manifest
    from omnictl.errors import DataError


def touch(folder: Path, *names: str) -> None:
    """Empty files, in folders that are made for them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def write_lines(path: Path, *lines: str) -> Path:
    """A file of lines, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def write_rows(path: Path, *values: Any) -> Path:
    """A file of JSON lines; a text is a line as it is."""
    path.write_text("".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values))
    return path


def append_row(path: Path, row: object) -> str:
    """Add a JSON line to a file; returns where it stands."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return f"{path}:{len(path.read_text().splitlines())}"


def cut_end(path: Path) -> None:
    """Take the end off a file; its headers stay whole."""
    path.write_bytes(path.read_bytes()[:-20])


def refusal(read: Callable[..., object], *arguments: object) -> "DataError":
    """The error with which something is not read."""
    from omnictl.errors import DataError

    with pytest.raises(DataError) as error:
        read(*arguments)
    return error.value


def only_broken(manifest: "Manifest[Any]") -> "BrokenRow":
    """The first broken row of a manifest with one that is fine."""
    assert len(manifest.rows) == 1
    return manifest.broken[0]


def kinds_and_places(problems: Any) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in problems]
