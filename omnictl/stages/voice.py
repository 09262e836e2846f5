"""What a Talker speaks with: the codec in whose codes it writes, a vocoder, and perhaps a Thinker that reads along.

Their models are opened nowhere else. A Talker's model folder holds copies of theirs, so that it needs no other run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from omnictl.generate.griffin_lim import GriffinLim, Neural, Vocoder
from omnictl.generate.thinker_conditioning import ThinkerConditioner
from omnictl.generate.tts import CodeSampling, Voice
from omnictl.models.talker import Talker
from omnictl.runs.model_folder import copy_parts, parts_in
from omnictl.stages import pretrain
from omnictl.stages.codec import open_codec
from omnictl.stages.vocoder import VocoderStage
from omnictl.trainer.checkpoint import load_weights

PARTS = ("codec", "aligner", "vocoder", "thinker")
"""The stages whose models a Talker's folder may hold; it always holds the first two."""

VocoderKind = Literal["griffin-lim", "istft"]


class VoiceParts:
    """The models beside a Talker; the vocoder is opened when it speaks.

    Args:
        folders: the model folders of the stages in `PARTS`, by name.
        vocoder: what makes audio of the codec's frames.
        cache: folder of the cache.

    Raises:
        CheckpointError: one of them holds no complete model.
    """

    def __init__(self, folders: Mapping[str, Path], vocoder: VocoderKind, *, cache: Path) -> None:
        self.folders, self._vocoder, self._cache = folders, vocoder, cache
        self.codec = open_codec(folders["codec"], cache)
        self.thinker = open_thinker(folders["thinker"]) if "thinker" in folders else None

    def copy_into(self, folder: Path) -> None:
        """Put copies of their model folders into that of the Talker."""
        copy_parts(folder, self.folders)

    def give_voice(self, talker: Talker, longest: int, sampling: CodeSampling, speakers: Sequence[str]) -> Voice:
        """A Talker with all that it needs to speak, on its device; the arguments are those of `Voice`."""
        device = talker.cos.device
        if self.thinker:
            self.thinker.model.to(device)
        return Voice(talker, self.codec.to(device), self._open_vocoder(), longest, sampling, tuple(speakers), self.thinker)

    def _open_vocoder(self) -> Vocoder:
        if self._vocoder == "griffin-lim":
            return GriffinLim(self.codec.config.mel)
        folder = self.folders["vocoder"]
        network = VocoderStage.open(folder, data=None, cache=self._cache).model
        load_weights(folder / "model.safetensors", network)
        return Neural(network.to(self.codec.mean.device).eval())


def folders_in(folder: Path) -> dict[str, Path]:
    """The model folders of the parts of which a Talker's model folder holds copies."""
    return parts_in(folder, PARTS)


def open_thinker(folder: Path) -> ThinkerConditioner:
    """The Thinker of a model folder, frozen.

    Raises:
        CheckpointError: it holds none.
    """
    model, tokenizer = pretrain.open_thinker(folder)
    return ThinkerConditioner(model.eval().requires_grad_(requires_grad=False), tokenizer)
