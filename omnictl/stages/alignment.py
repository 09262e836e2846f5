"""Who can tell how long each symbol of an utterance is spoken: the aligner or the recogniser of a model folder."""

from pathlib import Path

import numpy as np
import torch

from omnictl.data.speech.batches.utterances import evaluation_batches
from omnictl.data.speech.examples import SpeechSet
from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.data.speech.transcripts.transcript import ALPHABET
from omnictl.errors import ConfigError
from omnictl.features.durations import Alignment, Durations, between
from omnictl.generate.ctc_search import align
from omnictl.models.aligner import STRIDE
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.losses.ctc import frames_needed
from omnictl.runs.files import read_json
from omnictl.stages.aligner import AlignerStage
from omnictl.stages.asr import EVALUATION_FRAMES, Asr
from omnictl.trainer.checkpoint import load_weights


def open_alignment(folder: Path, device: torch.device, cache: Path) -> Alignment:
    """The aligner or the recogniser of a model folder.

    Raises:
        CheckpointError: it holds neither, or no weights.
        ConfigError: a recogniser that does not spell characters.
    """
    stage: AlignerStage | Asr
    if read_json(folder / "config.json").get("stage") == Asr.name:
        stage = Asr.open(folder, data=None, cache=cache)
    else:
        stage = AlignerStage.open(folder, data=None, cache=cache)
    load_weights(folder / "model.safetensors", stage.model)
    stage.model.to(device).eval()
    return RecogniserAlignment(stage) if isinstance(stage, Asr) else stage


class RecogniserAlignment:
    """A recogniser's forced alignment (Graves et al. 2006, the likeliest path).

    Raises:
        ConfigError: it does not spell characters.
    """

    def __init__(self, recogniser: Asr) -> None:
        if recogniser.config.targets.kind != "characters":
            raise ConfigError(
                f"this recogniser spells {recogniser.config.targets.kind}, durations are those of characters",
                where="--aligner",
                fix="name an `asr` run with targets.kind=characters, or leave --aligner out: one is learned then",
            )
        self.recogniser = recogniser

    @torch.no_grad()
    def durations(self, found: SpeechSet) -> Durations:
        """See `Alignment`; where the letters do not fit into the recogniser's frames, all symbols last alike."""
        model = self.recogniser.config.model
        assert model.emissions != "auto"
        scale = SUBSAMPLING / STRIDE / model.emissions  # frames at 50 Hz of an emission
        lengths = [-(-int(length) // STRIDE) for length in found.lengths()]
        times: Durations = [np.empty(0, np.int64)] * len(found)
        for indices, batch in evaluation_batches(found, EVALUATION_FRAMES):
            encoded = self.recogniser.encode(batch)
            for row, index in enumerate(indices):
                log_probs = encoded.frames[row, : encoded.lengths[row]].float().log_softmax(-1).cpu()
                text = found.texts[index]
                letters = [place for place, symbol in enumerate(text) if symbol in ALPHABET]
                ids = CharacterTargets().encode("".join(text[place] for place in letters))
                spans = align(log_probs, ids) if frames_needed(ids) <= len(log_probs) else None
                times[index] = between(letters, spans, len(text), lengths[index], scale)
        return times
