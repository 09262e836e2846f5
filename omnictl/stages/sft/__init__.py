"""Stage E: a Thinker learns to answer about text, images and audio; or, of pairs of replies, which are the better ones."""

from omnictl.stages.sft.config import OBJECTIVE_PRESETS as OBJECTIVE_PRESETS
from omnictl.stages.sft.config import PRESETS as PRESETS
from omnictl.stages.sft.config import SftConfig as SftConfig
from omnictl.stages.sft.stage import STAGE as STAGE
from omnictl.stages.sft.stage import Sft as Sft
