"""`omnictl classify FILE…`: what images show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output, printable, show_file_error
from omnictl.cli.options import DeviceOption, JsonOption, RunOption, RunsOption, choose_run
from omnictl.errors import DataError
from omnictl.runs.root import run_root
from omnictl.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnictl.use.classify import Guess


def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JPEG, PNG, WebP, GIF or BMP.", show_default=False)],
    run: RunOption = None,
    caption: Annotated[
        list[str] | None,
        typer.Option(
            help="Something to choose from, for a contrastive model; repeatable. Default: its classes.", show_default=False
        ),
    ] = None,
    most: Annotated[int, typer.Option("--top", min=1, help="Show so many values of each attribute.")] = 1,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """Name what images show, with the newest vision encoder."""
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.trainer.hardware.device import choose_device
    from omnictl.use.classify import classify_file, open_classifier

    news = Output(as_json=True)  # on standard error, always: the result is what the images show
    chosen = choose_run(run_root(runs), "vision", run)
    vision = open_classifier(chosen, choose_device(device), cache_dir())
    news.say(f"classifying with {escape(str(chosen.path))}")
    output = Output(as_json)

    def look(path: Path) -> "dict[str, list[Guess]]":
        return classify_file(path, vision, captions=caption or (), most=most)

    entries = [_entry(file, look, output, alone=len(files) == 1) for file in files]
    if as_json:
        output.result({"run": str(chosen.path), "files": entries}, "")
    return DataError.exit_code if any("error" in entry for entry in entries) else 0


def _entry(file: Path, look: "Callable[[Path], dict[str, list[Guess]]]", output: Output, *, alone: bool) -> dict[str, object]:
    """Look at a file; a broken one among several is reported and leaves the others alone."""
    name = printable(file)
    try:
        attributes = look(file)
    except DataError as error:
        if alone:
            raise
        return {"image": name, "error": show_file_error(error)}
    shown = "  ".join(f"{attribute} {_guesses(guesses)}" for attribute, guesses in attributes.items())
    if not output.as_json:
        print(visible(shown if alone else f"{name}: {shown}"))
    values = {
        attribute: [{"value": value, "probability": round(probability, 4)} for value, probability in guesses]
        for attribute, guesses in attributes.items()
    }
    return {"image": name, "attributes": values}


def _guesses(guesses: "list[Guess]") -> str:
    return ", ".join(f"{value} ({probability:.2f})" for value, probability in guesses)
