"""`omnictl config`: look at a stage's settings before anything runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.completion import complete_stage
from omnictl.cli.console import Output
from omnictl.cli.options import ConfigOption, JsonOption, PresetOption, SetOption, check_stage, resolve_config
from omnictl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from omnictl.config import Config
    from omnictl.config.reference import Setting

app = typer.Typer(help="Show, describe and compare configs.", no_args_is_help=True)

StageArgument = Annotated[str, typer.Argument(help="A stage, e.g. pretrain.", autocompletion=complete_stage, show_default=False)]


@app.command()
def show(
    stage: StageArgument,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Print the config that a training command with these options would use."""
    from omnictl.config import to_json

    print(to_json(resolve_config(stage, preset, config, set_ or [])), end="")


@app.command()
def schema(stage: StageArgument) -> None:
    """Print the JSON Schema of a stage's config: every key, its type, default and meaning."""
    from omnictl.config import schema as json_schema
    from omnictl.stages import command_recipe

    check_stage(stage)
    print(json.dumps(json_schema(command_recipe(stage).config_type), indent=2))


@app.command()
def describe(
    stage: StageArgument,
    key: Annotated[
        str, typer.Argument(help="A key, or what keys begin with, e.g. train or data.source; default: all.", show_default=False)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List a stage's settings: every key with its type, bounds, default and meaning. The presets differ from the defaults."""
    from omnictl.config.reference import REQUIRED, setting_groups
    from omnictl.config.suggest import suggest_keys
    from omnictl.stages import command_recipe

    check_stage(stage)
    listed = [one for group in setting_groups(command_recipe(stage).config_type) for one in group.settings]
    chosen = [one for one in listed if one.key == key or not key or one.key.startswith(f"{key}.")]
    if not chosen:
        parent, _, name = key.rpartition(".")
        close = suggest_keys(parent, name, [], [one.key for one in listed])
        hint = f", did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(
            f"stage `{stage}` has no setting {key!r}{hint}",
            where="KEY",
            fix=f"`omnictl config describe {stage}` lists all of them",
        )
    values = [
        one._asdict()
        | {"default": None if one.default == REQUIRED else json.loads(one.default), "required": one.default == REQUIRED}
        for one in chosen
    ]
    Output(as_json=as_json).result({"stage": stage, "settings": values}, _settings_table(chosen))


def _settings_table(settings: "Sequence[Setting]") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table("key", "default", "type", "meaning")
    table.columns[0].overflow = "fold"
    for one in settings:
        kind = " ".join(part for part in (one.type.replace("`", ""), one.bounds) if part)
        table.add_row(*(escape(text) for text in (one.key, one.default, kind, one.description)))
    return table


@app.command()
def diff(
    stage: StageArgument,
    first: Annotated[str, typer.Argument(help="A preset, a config file or a run.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another one.", show_default=False)],
) -> None:
    """Print the settings in which two configs differ."""
    from omnictl.config import diff as differences

    check_stage(stage)
    for key, one, other in differences(_find_config(stage, first), _find_config(stage, second)):
        print(f"{key}: {json.dumps(one)} -> {json.dumps(other)}")


def _find_config(stage: str, reference: str) -> "Config":
    """The config of a preset, a config file or a run.

    Raises:
        ConfigError: the file does not validate.
        UsageError: there is nothing of that name.
    """
    from omnictl.stages import command_recipe

    path = Path(reference)
    if (path / "config.json").is_file():
        return resolve_config(stage, None, path / "config.json", [])
    if path.is_file():
        return resolve_config(stage, None, path, [])
    presets = command_recipe(stage).presets
    if reference in presets:
        return resolve_config(stage, reference, None, [])
    raise UsageError(
        f"{reference!r} is neither a preset ({', '.join(presets)}) nor a config file nor a run's folder",
        where=reference,
        fix="check the name; a run is named by its path, e.g. runs/pretrain/2026-11-22_14-05-09_tiny",
    )
