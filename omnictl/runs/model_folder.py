"""The model folder of a run: weights, their description, and everything needed to use them.

model/  config.json  model.safetensors  tokenizer.json  manifest.json
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from omnictl import __version__
from omnictl.config import Config, to_dict
from omnictl.errors import CheckpointError
from omnictl.runs.checksums import check_folder, read_sealed, seal
from omnictl.runs.files import write_json, writing

FORMAT = 1

C = TypeVar("C", bound=Config)
V = TypeVar("V")

_KINDS: dict[type, str] = {int: "a whole number", str: "a text", list: "a list", dict: "a mapping"}


def write_description(folder: Path, stage: str, config: Config, **fields: object) -> None:
    """Make the folder and its `config.json`.

    Args:
        folder: to be made.
        stage: whose model it holds.
        config: that the model was trained with.
        fields: what else must be known to use it.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    described = {"format": FORMAT, "stage": stage, "omnictl": __version__, **fields, "config": to_dict(config)}
    write_json(folder / "config.json", described)


def copy_parts(folder: Path, parts: Mapping[str, Path]) -> None:
    """Put copies of other model folders into one, by name: what is made of them then needs no other run.

    Raises:
        CheckpointError: one of them is damaged.
        DiskFull, RunError: they cannot be written.
    """
    for name, part in parts.items():
        check_folder(part)
        with writing(folder):
            shutil.copytree(part, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        _flush(folder / name)


def _flush(copy: Path) -> None:
    """Flush a copied model folder and the parts in it; those that had no checksums get some now."""
    for part in copy.iterdir():
        if part.is_dir():
            _flush(part)
    seal(copy)


def parts_in(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Those of the named copies that a model folder holds."""
    return {name: folder / name for name in names if (folder / name).is_dir()}


def read_config(folder: Path, stage: str, cls: type[C], *, source: str | None = None) -> C:
    """The resolved config that a model folder's weights were trained with.

    Args:
        folder: the model folder.
        stage: whose it must be.
        cls: of the config.
        source: another source of data, instead of the one trained on.

    Raises:
        CheckpointError: as `read_description`; or the config is one of another version.
    """
    described = read_description(folder, stage)
    try:
        config: Any = cls(**described["config"])
    except (ValidationError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"the config in {folder}/config.json does not fit this version of omnictl: {error}",
            where=f"{folder}/config.json",
            fix="use the version named there, or train the model anew",
        ) from error
    with_source: C = config if source is None else config.model_copy(update={"data": config.data.with_source(source)})
    return with_source


def read_stage(folder: Path) -> str:
    """The stage whose model a folder holds.

    Raises:
        CheckpointError: it is no model folder.
    """
    path = folder / "config.json"
    description = _read(path) if path.is_file() else None
    if not isinstance(description, dict) or not isinstance(description.get("stage"), str):
        raise CheckpointError(
            f"{folder} is not a model folder: {'its config.json names no stage' if path.is_file() else 'it has no config.json'}",
            where=str(folder),
            fix="name a run, or the model folder in it",
        )
    return str(description["stage"])


def read_description(folder: Path, stage: str) -> dict[str, Any]:
    """The contents of the `config.json` that `write_description` wrote.

    Raises:
        CheckpointError: no such folder, of another stage, of another version, or not as it was written.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a model folder: it has no config.json",
            where=str(folder),
            fix=f"name a run of `omnictl {stage}`, or its model folder",
        )
    description = _read(path)
    if not isinstance(description, dict) or description.get("format") != FORMAT or description.get("stage") != stage:
        actual = {key: description.get(key) for key in ("format", "stage")} if isinstance(description, dict) else description
        raise CheckpointError(
            f"{path} describes {actual}, expected format {FORMAT} of stage `{stage}`",
            where=str(path),
            fix=f"name a run made by `omnictl {stage}` of this version",
        )
    return description


def described_field(folder: Path, stage: str, name: str, kind: type[V]) -> V:
    """One of the fields that `write_description` was given besides the config.

    Raises:
        CheckpointError: as `read_description`; or it is missing, or something else than a `kind`.
    """
    value = read_description(folder, stage).get(name)
    if type(value) is not kind:
        path = folder / "config.json"
        raise CheckpointError(
            f"{path} gives {name} as {str(value)[:80]!r}, expected {_KINDS.get(kind, kind.__name__)}",
            where=str(path),
            fix="restore the file from where it came, or choose another run",
        )
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(read_sealed(path))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", where=str(path), fix="choose a model folder that omnictl wrote"
        ) from error
