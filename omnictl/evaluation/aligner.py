"""How well recordings and texts fit: nats a frame over a split, with intervals and controls."""

import math
from typing import NamedTuple

from omnictl.metrics.intervals import Estimate, ratio


class UtteranceScores(NamedTuple):
    """How well the audio and the text of one utterance fit, in nats."""

    nats: float
    path: float
    frames: int
    symbols: int


class AlignmentScores(NamedTuple):
    """How well a split's recordings and texts fit, in nats."""

    nats: float  # of the forward sum
    path: float  # along the likeliest path
    uniform: float  # along the path of equal times
    frames: int
    utterances: tuple["UtteranceScores", ...]

    def rates(self) -> dict[str, float]:
        """The metrics, a frame."""
        return {"loss": self.nats / self.frames, "path_nats": self.path / self.frames}

    def guessed(self) -> Estimate:
        """What a path costs a frame that guesses every symbol of the text alike."""
        return ratio([one.frames * math.log(one.symbols) for one in self.utterances], [one.frames for one in self.utterances])

    def estimates(self) -> dict[str, Estimate]:
        """The metrics with their intervals over utterances, the path's compared with a guess."""
        frames = [one.frames for one in self.utterances]
        path = ratio([one.path for one in self.utterances], frames)
        return {
            "loss": ratio([one.nats for one in self.utterances], frames),
            "path_nats": path.against("path_nats_guessed", self.guessed(), "lower"),
        }
