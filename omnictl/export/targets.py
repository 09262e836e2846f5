"""The formats that models are exported to, and the one function that does it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from omnictl.export.agreement import Agreement
from omnictl.export.destination import draft_folder
from omnictl.export.gguf.write_file import Quantisation, write_gguf
from omnictl.export.hugging_face.write_adapter import write_adapter
from omnictl.export.hugging_face.write_thinker import write_hugging_face
from omnictl.export.model_card import Usage, adapter_usage, folder_usage, gguf_usage, onnx_usage, thinker_usage, write_model_card
from omnictl.export.omni import open_parts
from omnictl.export.omni_folder.write_folder import write_omni_folder
from omnictl.export.onnx.graph_check import compare_graphs
from omnictl.export.onnx.graph_files import write_graphs
from omnictl.export.thinker import open_thinker, open_updated_thinker


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
    export = open_thinker(model, settings.cache)
    file = folder / f"{settings.name}-{settings.quantisation}.gguf"
    agreements = write_gguf(export, file, str(model), settings.quantisation, settings.name)
    return Written(agreements, gguf_usage(file.name, chats=export.chats))


def _write_onnx(model: Path, folder: Path, settings: ExportSettings) -> Written:
    parts = open_parts(model, settings.cache)
    write_graphs(parts, folder)
    return Written(compare_graphs(parts, folder), onnx_usage())


def _write_folder(model: Path, folder: Path, settings: ExportSettings) -> Written:
    return Written(write_omni_folder(open_parts(model, settings.cache), folder), folder_usage())


TARGETS: Mapping[str, WriteModel] = {
    "hf": _write_hf,
    "lora": _write_lora,
    "gguf": _write_gguf,
    "onnx": _write_onnx,
    "folder": _write_folder,
}
"""By the name that `--to` takes."""


def export_model(target: str, model: Path, out: Path, settings: ExportSettings) -> Exported:
    """Write a model in another format, with a card, compare it with the run, and only then put it in its place.

    Args:
        target: one of `TARGETS`.
        model: the model folder of a run, or a copy of it.
        out: the folder to make.
        settings: how.

    Raises:
        UsageError: `out` holds something, the model has no such part, or a library is not installed.
        ConfigError: the model has what the format cannot hold; it is named.
        CheckpointError: the model folder is not whole.
        ExportError: the export differs from the run.
        DiskFull, RunError: it cannot be written.
    """
    with draft_folder(out) as draft:
        agreements, usage = TARGETS[target](model, draft, settings)
        write_model_card(draft, model, usage, agreements, name=settings.name, licence=settings.licence)
        files = {str(path.relative_to(draft)): path.stat().st_size for path in sorted(draft.rglob("*")) if path.is_file()}
    return Exported(out, files, agreements)
