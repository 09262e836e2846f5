"""How long each symbol of an utterance is spoken, by who can tell: an aligner, or a recogniser that is told what it hears.

A recogniser of CTC emits a letter in a frame or two, somewhere while it is heard, and blanks else. So a letter's time goes from
midway to the letter before to midway to the one after; a mark, which is never emitted, shares the time between its neighbours.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from omnictl.data.speech_batches import evaluation_batches
from omnictl.data.speech_set import SpeechSet
from omnictl.data.targets import CharacterTargets
from omnictl.data.transcript import ALPHABET
from omnictl.errors import ConfigError
from omnictl.generate.ctc import Span, align
from omnictl.models.aligner import STRIDE
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.ctc import frames_needed
from omnictl.runs.files import read_json
from omnictl.stages.aligner import AlignerStage
from omnictl.stages.asr import EVALUATION_FRAMES, Asr
from omnictl.train.checkpoint import load_weights

Durations = list[NDArray[np.int64]]


class Alignment(Protocol):
    """Who can tell."""

    def durations(self, found: SpeechSet) -> Durations:
        """Frames at 50 Hz of every symbol of each utterance's text, edges included."""
        ...


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


def between(letters: list[int], spans: list[Span] | None, symbols: int, frames: int, scale: float) -> NDArray[np.int64]:
    """Durations `(symbols + 2,)` of a text and its edges, that add up to `frames`, at least one each.

    Args:
        letters: places in the text of what is emitted.
        spans: of each, in emissions; None: unknown.
        symbols: of the text, marks included.
        frames: at 50 Hz, of the utterance.
        scale: frames of an emission.
    """
    places, peaks = [-1, symbols], [0.0, float(frames)]
    if spans is not None:
        places[1:1] = letters
        peaks[1:1] = [scale * (span.start + span.stop) / 2 for span in spans]
    centres = np.interp(np.arange(-1, symbols + 1), places, peaks)  # (T,) the edges' and the marks' too
    bounds = np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [frames]]).round().astype(np.int64)
    steps = np.arange(len(bounds))
    bounds = np.maximum.accumulate(bounds - steps) + steps  # at least one frame each, from the front
    bounds = np.minimum(bounds, frames - steps[::-1])  # and from the back
    return np.diff(bounds)
