"""`omnictl config`: look at a stage's settings before anything runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnictl.cli.options import check_stage, resolve_config
from omnictl.errors import UsageError

if TYPE_CHECKING:
    from omnictl.config import Config

app = typer.Typer(help="Show, describe and compare configs.", no_args_is_help=True)

StageArgument = Annotated[str, typer.Argument(help="A stage, e.g. pretrain.", show_default=False)]


@app.command()
def show(
    stage: StageArgument,
    preset: Annotated[str | None, typer.Option(help="debug, tiny (the default) or small.", show_default=False)] = None,
    config: Annotated[Path | None, typer.Option(help="Config file: JSON, TOML or YAML.", show_default=False)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.")] = None,
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
