"""The stages: one module each, with what it trains, its config, presets, batches, loss and evaluation.

`STAGES` names them all; a stage's module (and torch) is imported only when the stage is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from omnictl.stages.protocol import Recipe, TrainableStage


class StageEntry(NamedTuple):
    """Where a stage is, and what it does in a line."""

    module: str
    type_name: str
    summary: str


STAGES: dict[str, StageEntry] = {
    "pretrain": StageEntry("omnictl.stages.pretrain", "Pretrain", "Stage A: train the Thinker, a language model, on text."),
    "asr": StageEntry("omnictl.stages.asr", "Asr", "Stage B: train the audio encoder to turn speech into text."),
    "vision": StageEntry("omnictl.stages.vision", "Vision", "Stage C: train the vision encoder to tell pictures apart."),
    "codec": StageEntry("omnictl.stages.codec", "CodecStage", "Stage D, first part: the codec."),
    "aligner": StageEntry("omnictl.stages.aligner", "AlignerStage", "Stage D, second part: the aligner."),
    "vocoder": StageEntry("omnictl.stages.vocoder", "VocoderStage", "Stage D, a part on request: the neural vocoder."),
    "talker": StageEntry(
        "omnictl.stages.talker", "TalkerStage", "Stage D: train the Talker to speak, and the codec it speaks through."
    ),
    "sft": StageEntry("omnictl.stages.sft", "Sft", "Stage E: join them all, and train to answer about text, pictures and sounds."),
}
"""By name."""

COMMANDS = ("pretrain", "asr", "vision", "talker", "sft")
"""The stages that a command trains; `talker` trains the parts that it needs, too."""

JUDGED = ("talker",)
"""The stages whose evaluation needs a recogniser that listens."""

HEARD = (*JUDGED, "sft")
"""And those of which it judges a part, if there is one."""

COMPOSED: dict[str, StageEntry] = {
    "talker": StageEntry("omnictl.stages.talker_recipe", "Speaking", STAGES["talker"].summary),
}
"""Commands whose config is that of several stages."""


def stage_type(name: str) -> "type[TrainableStage]":
    """The class of a stage in `STAGES`."""
    return cast("type[TrainableStage]", _load(STAGES[name]))


def recipe_type(name: str) -> "type[Recipe]":
    """What has the config and presets of a command, or of a stage that is only part of one."""
    return cast("type[Recipe]", _load(COMPOSED.get(name, STAGES[name])))


def _load(entry: StageEntry) -> object:
    return getattr(import_module(entry.module), entry.type_name)
