"""The formats that models are exported to, and the one function that does it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from omnictl.errors import UsageError
from omnictl.export import Quantisation, Target
from omnictl.export.agreement import Agreement
from omnictl.export.destination import draft_folder
from omnictl.export.gguf.write_file import write_gguf
from omnictl.export.hugging_face.write_adapter import write_adapter
from omnictl.export.hugging_face.write_thinker import write_hugging_face
from omnictl.export.model_card.origins import find_origins
from omnictl.export.model_card.usage import Usage, adapter_usage, folder_usage, gguf_usage, onnx_usage, thinker_usage
from omnictl.export.model_card.write_card import write_model_card
from omnictl.export.omni import open_parts
from omnictl.export.omni_folder.write_folder import write_omni_folder
from omnictl.export.onnx.graph_check import compare_graphs
from omnictl.export.onnx.graph_files import write_graphs
from omnictl.export.thinker import open_thinker, open_updated_thinker

LONGEST_NAME = 200
"""Bytes of a file's name, without its ending."""


class ExportSettings(NamedTuple):
    """How a model is exported."""

    name: str
    """Of the model, for its card."""
    cache: Path
    """The cache folder."""
    licence: str | None = None
    """Identifier of the licence that the model is given away under."""
    quantisation: Quantisation = "f16"
    """Of GGUF."""


class Exported(NamedTuple):
    """What was written."""

    out: Path
    files: dict[str, int]
    """Bytes of each file."""
    agreements: list[Agreement]
    """What was compared with the run."""


class Written(NamedTuple):
    """What a format makes of a model."""

    agreements: list[Agreement]
    usage: Usage


WriteModel = Callable[[Path, Path, ExportSettings], Written]
"""Writes the model of a model folder into another folder and compares the two."""


def _write_hf(model: Path, folder: Path, settings: ExportSettings) -> Written:
    export = open_thinker(model, settings.cache)
    return Written(write_hugging_face(export, folder, str(model)), thinker_usage(chats=export.chats))


def _write_lora(model: Path, folder: Path, settings: ExportSettings) -> Written:
    export = open_updated_thinker(model, settings.cache)
    return Written(write_adapter(export, folder, str(model)), adapter_usage())


def _write_gguf(model: Path, folder: Path, settings: ExportSettings) -> Written:
    file = folder / f"{file_name(settings.name)}-{settings.quantisation}.gguf"
    export = open_thinker(model, settings.cache)
    agreements = write_gguf(export, file, str(model), settings.quantisation, settings.name)
    return Written(agreements, gguf_usage(file.name, chats=export.chats))


def _write_onnx(model: Path, folder: Path, settings: ExportSettings) -> Written:
    parts = open_parts(model, settings.cache, with_voice=True)
    write_graphs(parts, folder)
    return Written(compare_graphs(parts, folder), onnx_usage(parts.media, speaks=parts.voice is not None))


def _write_folder(model: Path, folder: Path, settings: ExportSettings) -> Written:
    parts = open_parts(model, settings.cache, with_voice=False)
    return Written(write_omni_folder(parts, folder), folder_usage(parts.media))


def file_name(name: str) -> str:
    """What a model's file is called: the last part of its name, with "-" for what does not belong in a file's name.

    Raises:
        UsageError: nothing is left of it, or too much for a file.
    """
    suited = re.sub(r"[^\w.+-]+", "-", name.rpartition("/")[2]).strip(".-")
    if not 0 < len(suited.encode()) <= LONGEST_NAME:
        raise UsageError(
            f"no file can be called by the model's name {name[:60]!r}",
            where="--name",
            fix=f"give one of letters, digits, '.', '_', '+' and '-', at most {LONGEST_NAME} bytes: --name my-thinker",
        )
    return suited


TARGETS: Mapping[Target, WriteModel] = {
    "hf": _write_hf,
    "lora": _write_lora,
    "gguf": _write_gguf,
    "onnx": _write_onnx,
    "folder": _write_folder,
}
"""By the name that `--to` takes."""


def export_model(target: Target, model: Path, out: Path, settings: ExportSettings) -> Exported:
    """Write a model in another format, with a card, compare it with the run, and only then put it in its place.

    Args:
        target: one of `TARGETS`.
        model: the model folder of a run, or a copy of it.
        out: the folder to make.
        settings: how.

    Raises:
        UsageError: `out` cannot be replaced, the model has no such part, its name suits no file, or a library is not installed.
        ConfigError: the model has what the format cannot hold; it is named.
        CheckpointError: the model folder is not whole.
        ExportError: the export differs from the run.
        DiskFull, RunError: it cannot be written.
    """
    with draft_folder(out) as draft:
        origins = find_origins(model)
        agreements, usage = TARGETS[target](model, draft, settings)
        write_model_card(draft, model, usage, origins, agreements, name=settings.name, licence=settings.licence)
        files = {str(path.relative_to(draft)): path.stat().st_size for path in sorted(draft.rglob("*")) if path.is_file()}
    return Exported(out, files, agreements)
