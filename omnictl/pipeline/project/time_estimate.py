"""About how long a project takes here, from what the presets are known to take: in a moment, without measuring anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from omnictl.config import Config
from omnictl.pipeline.pipeline import choose_config
from omnictl.pipeline.project.read_project import Project
from omnictl.pipeline.time_budget.plan import plan_judgement
from omnictl.pipeline.time_budget.reference_curves import find_reference
from omnictl.pipeline.time_budget.unit_costs import UnitConfig, find_unit_costs
from omnictl.stages import unit_configs, unit_presets


class TimeEstimate(NamedTuple):
    """What is known of the time that a project takes."""

    seconds: Mapping[str, float]
    """By unit, of those whose settings are those of a preset that was measured, on data like the built-in one."""
    judging_seconds: float
    unknown: tuple[str, ...]
    """Other units."""

    @property
    def total_seconds(self) -> float:
        """Of all that is known."""
        return sum(self.seconds.values()) + self.judging_seconds


def estimate_time(project: Project, device: torch.device, cache: Path) -> TimeEstimate:
    """Estimate how long a project takes, with all steps that are configured.

    Args:
        project: what is trained.
        device: where.
        cache: folder of the cache, which may hold what was measured of this machine.
    """
    config = choose_config(project.stages, project.presets, [], project.config)
    configs = {
        unit: _on_usual_data(unit, own, project.presets[stage])
        for stage in project.stages
        for unit, own in unit_configs(stage, getattr(config, stage)).items()
    }
    known = [UnitConfig(unit, own) for unit, own in configs.items() if find_reference(unit, own) is not None]
    costs = find_unit_costs(known, device, cache, seconds=0.0, max_steps=None, limits_data=False, tell=lambda _: None)
    seconds = {cost.name: cost.seconds(cost.steps) for cost in costs}
    judging = plan_judgement(costs, sum(seconds.values())) if costs else 0.0
    return TimeEstimate(seconds, judging, tuple(unit for unit in configs if unit not in seconds))


def _on_usual_data(unit: str, config: Any, preset: str) -> Config:
    """The same settings on the data that its preset was measured with: a step takes about as long on others of the kind."""
    usual: Any = unit_presets(unit)[preset]
    own: Config = config.model_copy(update={"data": usual.data})
    return own
