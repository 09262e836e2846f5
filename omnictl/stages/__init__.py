"""The stages: one module each, with what it trains, its config, presets, batches, loss and evaluation.

`STAGES` names them all; a stage's module (and torch) is imported only when the stage is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from omnictl.stages.protocol import TrainableStage


class StageEntry(NamedTuple):
    """Where a stage is, and what it does in a line."""

    module: str
    type_name: str
    summary: str


STAGES: dict[str, StageEntry] = {
    "pretrain": StageEntry("omnictl.stages.pretrain", "Pretrain", "Stage A: train the Thinker, a language model, on text."),
    "asr": StageEntry("omnictl.stages.asr", "Asr", "Stage B: train the audio encoder to turn speech into text."),
    "vision": StageEntry("omnictl.stages.vision", "Vision", "Stage C: train the vision encoder to tell pictures apart."),
}
"""By command name."""


def stage_type(name: str) -> "type[TrainableStage]":
    """The class of a stage in `STAGES`."""
    entry = STAGES[name]
    return cast("type[TrainableStage]", getattr(import_module(entry.module), entry.type_name))
