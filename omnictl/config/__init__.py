"""Typed configs: presets, config files and `--set`, validated together before anything starts.

This layer knows no stage: a stage passes its own `Config` class and its presets in.
"""

from omnictl.config.base import Config as Config
from omnictl.config.files import ConfigFile as ConfigFile
from omnictl.config.files import read_config as read_config
from omnictl.config.overrides import Override as Override
from omnictl.config.overrides import parse_override as parse_override
from omnictl.config.presets import choose_preset as choose_preset
from omnictl.config.resolve import resolve as resolve
from omnictl.config.serialization import diff as diff
from omnictl.config.serialization import flatten as flatten
from omnictl.config.serialization import schema as schema
from omnictl.config.serialization import to_dict as to_dict
from omnictl.config.serialization import to_json as to_json
