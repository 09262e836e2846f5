"""The trained encoders of media that an omni model is joined with."""

from importlib import import_module
from pathlib import Path

from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.features.frontends import MediaEncoder


def open_encoder(kind: MediaKind, folder: Path, cache: Path) -> MediaEncoder:
    """The encoder of a kind of media in a model folder of its stage.

    Raises:
        CheckpointError: it holds no complete model of that stage.
    """
    encoder: MediaEncoder = import_module(MODALITIES[kind].module).open_encoder(folder, cache)
    return encoder


def needed_parts(corpus: DialogueCorpus) -> tuple[str, ...]:
    """The stages whose models dialogues cannot do without."""
    return ("pretrain", *dict.fromkeys(modality.stage for kind, modality in MODALITIES.items() if kind in corpus.kinds))
