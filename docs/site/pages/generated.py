"""Pages made of the code: every setting of every stage, every command with its options, the Python API.

`python docs/site/pages/generated.py FOLDER` writes them as Markdown files.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from omnictl.cli.app import app
from omnictl.config import Config, flatten
from omnictl.config.reference import REQUIRED, Setting, setting_groups
from omnictl.stages import STAGES, command_recipe, command_stages

API_PAGE = """# Python API

What `import omnictl` offers. The [guide](../python.md) shows it in use.

::: omnictl.api
    options:
      members: [train, evaluate, load, Model, TrainResult, Speech]
      show_root_heading: false
      show_root_toc_entry: false

## Results

::: omnictl.measure.evaluate.Evaluation
    options: {heading_level: 3}

::: omnictl.trainer.stage.Report
    options: {heading_level: 3}

::: omnictl.use.transcribe.Transcript
    options: {heading_level: 3}

::: omnictl.use.classify.Guess
    options: {heading_level: 3}

## Errors

::: omnictl.errors
    options: {heading_level: 3, show_root_heading: false, show_root_toc_entry: false}
"""


BOUNDS = re.compile(r"\s*\[([^\]]*)\]$")
"""Default and range of an option, behind its help."""


def settings_pages() -> dict[str, str]:
    """A page for each stage that has a command."""
    return {stage: "\n".join([*_settings(stage), ""]) for stage in command_stages()}


def _settings(stage: str) -> Iterator[str]:
    recipe = command_recipe(stage)
    presets = {name: _values(preset) for name, preset in recipe.presets.items()}
    yield f"# Settings of `{stage}`\n"
    yield f"{STAGES[stage].summary} `--set KEY=VALUE` changes one setting, `--config FILE` several;"
    yield f"`omnictl config describe {stage}` prints this list. The default holds for a config file without a preset;"
    yield "where presets differ from it, their values follow. Commands take `tiny` unless told otherwise.\n"
    for group in setting_groups(recipe.config_type):
        if group.key:
            yield f"## {group.key}\n"
            yield f"{group.summary}\n"
        for setting in group.settings:
            yield _entry(setting, presets)


def _values(preset: Config) -> Mapping[str, object]:
    return flatten(preset)


def _entry(setting: Setting, presets: Mapping[str, Mapping[str, object]]) -> str:
    own = {name: json.dumps(values[setting.key], ensure_ascii=False) for name, values in presets.items() if setting.key in values}
    differing = own if any(value != setting.default for value in own.values()) else {}
    default = "required" if setting.default == REQUIRED else f"default `{setting.default}`"
    values = ", ".join([default, *(f"{name} `{value}`" for name, value in differing.items())])
    kind = " ".join(part for part in (setting.type, setting.bounds) if part)
    return f"`{setting.key}`\n:   {setting.description}\n\n    {kind}; {values}\n{{ .setting }}\n"


def commands_page() -> str:
    """Every command with its arguments and options."""
    context = typer.Context(get_command(app), info_name="omnictl")
    lines = ["# Commands\n", "What `--help` says of each. Every command ends with exit code 0, or as [runs](../runs.md) lists.\n"]
    return "\n".join([*lines, *_command(context, "omnictl"), ""])


def _command(context: Any, path: str) -> Iterator[str]:
    command = context.command
    subcommands = getattr(command, "commands", {})
    if path != "omnictl":
        yield f"## {path}\n" if path.count(" ") == 1 else f"### {path}\n"
        yield f"{command.help or ''}\n"
    if not subcommands:
        yield from _parameters(context)
    for name, subcommand in subcommands.items():
        yield from _command(typer.Context(subcommand, info_name=name, parent=context), f"{path} {name}")


def _parameters(context: Any) -> Iterator[str]:
    rows = [record for parameter in context.command.params if (record := _help_of(parameter, context))]
    if rows:
        yield "| option | meaning |"
        yield "|---|---|"
        for name, text in rows:
            yield f"| `{name}` | {text} |".replace("\n", " ")
        yield ""


def _help_of(parameter: Any, context: Any) -> tuple[str, str] | None:
    record = parameter.get_help_record(context)
    if record is None or "--help" in record[0]:
        return None
    return record[0], BOUNDS.sub(r" (\1)", record[1]).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in settings_pages().items():
        (folder / f"settings_{name}.md").write_text(text, encoding="utf-8")
    (folder / "commands.md").write_text(commands_page(), encoding="utf-8")
