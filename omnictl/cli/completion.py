"""What a shell completes besides commands and options: stages, presets and runs. Reads no more than the names of folders."""

import typer

from omnictl.runs.root import run_root
from omnictl.stages import STAGES, command_stages

PRESETS = ("debug", "tiny", "small")


def complete_stage(incomplete: str) -> list[str]:
    """Stages that begin so."""
    return [stage for stage in STAGES if stage.startswith(incomplete)]


def complete_evaluated(incomplete: str) -> list[str]:
    """Stages that can be evaluated, or all of them at once."""
    return [stage for stage in ("all", *STAGES) if stage.startswith(incomplete)]


def complete_planned(incomplete: str) -> list[str]:
    """Stages that have a command, or all of them at once."""
    return [stage for stage in ("all", *command_stages()) if stage.startswith(incomplete)]


def complete_preset(incomplete: str) -> list[str]:
    """Presets that begin so."""
    return [preset for preset in PRESETS if preset.startswith(incomplete)]


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Runs as `STAGE/FOLDER`, the newest of a stage first; where a command is about one stage, those of that."""
    root = run_root(context.params.get("runs"))
    stage = next((name for name in (context.params.get("stage"), context.info_name) if name in (*STAGES, "pipeline")), "*")
    places = [file.parent.relative_to(root).as_posix() for file in root.glob(f"{stage}/*/run.json")]
    return sorted((place for place in places if place.startswith(incomplete)), reverse=True)
