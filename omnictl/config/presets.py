"""Choosing a preset by its name."""

from collections.abc import Mapping
from typing import TypeVar

from omnictl.config.base import Config
from omnictl.config.suggest import nearest
from omnictl.errors import ConfigError

C = TypeVar("C", bound=Config)


def choose_preset(presets: Mapping[str, C], name: str) -> C:
    """Returns the preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name in presets:
        return presets[name]
    meant = nearest(name, list(presets))
    raise ConfigError(
        f"found the preset '{name}', expected one of {', '.join(presets)}",
        fix=f"did you mean --preset {meant}?" if meant else "choose one of them",
        where="--preset",
    )
