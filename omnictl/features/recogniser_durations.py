"""How long each symbol of an utterance is spoken, by who can tell: an aligner, or a recogniser that is told what it hears.

A recogniser of CTC emits a letter in a frame or two, somewhere while it is heard, and blanks else. So a letter's time goes from
midway to the letter before to midway to the one after; a mark, which is never emitted, shares the time between its neighbours.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from omnictl.data.speech.examples import SpeechSet
from omnictl.generate.ctc_search import Span

Durations = list[NDArray[np.int64]]


class Alignment(Protocol):
    """An aligner, or a recogniser used as one."""

    def durations(self, utterances: SpeechSet) -> Durations:
        """Frames at 50 Hz of every symbol of each utterance's text, edges included."""
        ...


def spread_durations(places: list[int], spans: list[Span] | None, symbols: int, frames: int, scale: float) -> NDArray[np.int64]:
    """Durations `(symbols + 2,)` of a text and its edges, that add up to `frames`, at least one each.

    Args:
        places: places in the text of what is emitted.
        spans: of each, in emissions; None: unknown.
        symbols: of the text, marks included.
        frames: at 50 Hz, of the utterance.
        scale: frames of an emission.
    """
    knots, peaks = [-1, symbols], [0.0, float(frames)]
    if spans is not None:
        knots[1:1] = places
        peaks[1:1] = [scale * (span.start + span.stop) / 2 for span in spans]
    centres = np.interp(np.arange(-1, symbols + 1), knots, peaks)  # (T,) the edges' and the marks' too
    bounds = np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [frames]]).round().astype(np.int64)
    steps = np.arange(len(bounds))
    bounds = np.maximum.accumulate(bounds - steps) + steps  # at least one frame each, from the front
    bounds = np.minimum(bounds, frames - steps[::-1])  # and from the back
    return np.diff(bounds)
