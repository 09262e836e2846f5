"""The kinds of media that dialogues have besides text, and how a Thinker takes them in.

A new kind is a module with an encoder (`omnictl.features.media_encoders.MediaEncoder`) and a line of `MODALITIES`.
"""

from collections.abc import Container
from typing import NamedTuple

from omnictl.data.text.tokenizer import AUDIO, IMAGE

MediaKind = str
"""A key of `MODALITIES`; in a message, the type of a part."""


class Modality(NamedTuple):
    """A kind of media that a Thinker reads through an encoder."""

    stage: str
    """Whose runs hold the encoder."""
    module: str
    """Its `open_encoder(folder, cache)` opens the trained encoder of a model folder; imported only when that is asked for."""
    placeholder: int
    """The token that stands for a feature."""
    noun: str
    """What people call one."""
    verb: str
    """What a model does that has it, for messages."""


MODALITIES: dict[MediaKind, Modality] = {
    "image": Modality("vision", "omnictl.stages.vision", IMAGE, "image", "sees"),
    "audio": Modality("asr", "omnictl.stages.asr", AUDIO, "recording", "hears"),
}
"""By kind."""


def needed_stages(kinds: Container[MediaKind]) -> tuple[str, ...]:
    """The stages whose models dialogues with these kinds of media cannot do without."""
    return ("pretrain", *dict.fromkeys(modality.stage for kind, modality in MODALITIES.items() if kind in kinds))
