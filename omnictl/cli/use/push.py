"""`omnictl push`: send an export to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output, error_fields, show_error
from omnictl.cli.options import JsonOption
from omnictl.errors import OmniError


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `omnictl export` wrote.", show_default=False)],
    to: Annotated[str, typer.Option(metavar="NAME", help="Repository, as in me/my-model.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by its owner alone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Send an export to the Hugging Face hub; without a token or a network, say what would be sent (exit code 4)."""
    from omnictl.export.push import list_files, send

    output = Output(as_json=as_json)
    files = list_files(folder)
    for name, size in files.items():
        output.say(f"  {escape(name):<32} {size:>14,} bytes")
    total = f"{len(files)} files, {sum(files.values()) / 2**20:.1f} MiB"
    facts = {"folder": str(folder), "repository": to, "files": files}
    if dry_run:
        output.result({**facts, "address": None}, f"would be sent to {escape(to)}: {total}")
        return 0
    try:
        address = send(folder, to, private=private)
    except OmniError as error:
        output.result({**facts, "address": None, "error": error_fields(error)}, f"would be sent to {escape(to)}: {total}")
        show_error(error, Output(as_json=False))
        return error.exit_code
    output.result({**facts, "address": address}, f"sent to {escape(address)}: {total}")
    return 0
