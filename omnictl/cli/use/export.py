"""`omnictl export`: a trained model in the format of another program."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import JsonOption, RunsOption
from omnictl.cli.use.chat import find_partner
from omnictl.errors import UsageError
from omnictl.export import Quantisation, Target
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.export.targets import Exported


def export(
    to: Annotated[
        Target,
        typer.Option(
            help="hf: a Hugging Face folder of the Thinker (Qwen3ForCausalLM); lora: its low-rank updates apart, for peft; "
            "gguf: the Thinker for llama.cpp; "
            "onnx: all of an omni model for onnxruntime; folder: an omni model for transformers, with its own modelling code."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.", show_default=False)],
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="A run's path or name, or a model folder; default: the newest finished.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model, for its card; default: the run's.", show_default=False)
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            help="Licence of the model, for its card; default: apache-2.0 if all of it was made from the built-in world.",
            show_default=False,
        ),
    ] = None,
    quantization: Annotated[
        Quantisation | None, typer.Option(help="Of gguf; default: f16. llama-quantize makes others of it.", show_default=False)
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trained model in the format of another program, and compare the two.

    Nothing is left in DIR unless the export gives what the run gives.
    """
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.export.destination import check_place
    from omnictl.export.targets import ExportSettings, export_model

    output = Output(as_json=as_json)
    check_place(out)
    if quantization is not None and to != "gguf":
        raise UsageError(f"--to {to} has no quantization, gguf has", where="--quantization", fix="leave it out")
    source = find_partner(run_root(runs), run)
    output.say(f"exporting {escape(str(source.path))} …")
    settings = ExportSettings(name or source.path.resolve().name, cache_dir(), licence, quantization or "f16")
    exported = export_model(to, source.model, out, settings)
    output.result(
        {
            "run": str(source.path),
            "target": to,
            "out": str(out),
            "files": exported.files,
            "agreements": [agreement.as_json() for agreement in exported.agreements],
        },
        _describe(exported),
    )


def _describe(exported: "Exported") -> str:
    """What was compared, and what was written, a line each."""
    lines = [
        f"  {escape(one.what):<36} {one.compared:>9,} compared, largest difference {one.difference:.3g}"
        for one in exported.agreements
    ]
    size = sum(exported.files.values()) / 2**20
    where = escape(shlex.quote(str(exported.out)))
    return "\n".join(["agrees with the run:", *lines, f"wrote {where}: {len(exported.files)} files, {size:.1f} MiB"])
