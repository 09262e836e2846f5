"""What an omni model takes in besides text. A new kind is an encoder in `omnictl.features.frontends` and a line of `MODALITIES`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from omnictl.data.dialogues.chat_template import PLACEHOLDERS, MediaKind
from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.features.frontends import AudioFrontend, MediaEncoder, VisionFrontend
from omnictl.stages.asr import Asr
from omnictl.stages.pretrain import Pretrain
from omnictl.stages.protocol import open_model
from omnictl.stages.vision import Vision


class Modality(NamedTuple):
    """A kind of media that a Thinker reads through an encoder."""

    stage: str
    """Whose runs hold the encoder."""
    open: Callable[[Path, Path], MediaEncoder]
    """The trained encoder of a model folder; the second folder is the cache."""
    verb: str
    """What a model does that has it, for messages."""


def _open_eye(folder: Path, cache: Path) -> MediaEncoder:
    stage = open_model(Vision, folder, device=torch.device("cpu"), cache=cache)
    return VisionFrontend(stage.model.encoder, tuple(stage.known.patch_attributes.values()))


def _open_ear(folder: Path, cache: Path) -> MediaEncoder:
    stage = open_model(Asr, folder, device=torch.device("cpu"), cache=cache)
    return AudioFrontend(stage.model, stage.targets)


MODALITIES: Mapping[MediaKind, Modality] = {
    "image": Modality(Vision.name, _open_eye, "sees"),
    "audio": Modality(Asr.name, _open_ear, "hears"),
}
"""By kind."""

assert MODALITIES.keys() == PLACEHOLDERS.keys()


def needed_parts(corpus: DialogueCorpus) -> tuple[str, ...]:
    """The stages whose models dialogues cannot do without."""
    return (Pretrain.name, *(modality.stage for kind, modality in MODALITIES.items() if kind in corpus.kinds))
