"""What speech loses on its way through a codec, and how much of the codebooks is used."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from omnictl.metrics.intervals import Estimate, ratio
from omnictl.nn.rvq import perplexity


class Reconstruction(NamedTuple):
    """What a number of utterances lost on their way through the codec."""

    errors: list[float]  # of each utterance, by mel frame
    decibels: list[float]  # log-spectral distance of each utterance, by mel frame
    counts: Tensor  # (K, V) how often every code was used

    def rates(self, lengths: Sequence[int]) -> dict[str, float]:
        """The metrics; `lengths` are the utterances' mel frames."""
        used = perplexity(self.counts)
        return {
            "mel_mse": float(np.average(self.errors, weights=lengths)),
            "log_spectral_distance_db": float(np.average(self.decibels, weights=lengths)),
            "codebook_perplexity_min_ratio": float(used.min()) / self.counts.shape[1],
            "codebook_usage_min": float((self.counts > 0).double().mean(1).min()),
        }

    def last_book(self) -> dict[str, float]:
        """How many codes of the last book are used, as the exponential of their entropy, and the share of those used at all."""
        counts = self.counts[-1:]
        return {"perplexity_last_book": float(perplexity(counts)), "usage_last_book": float((counts > 0).double().mean())}


def average_by_length(values: Sequence[float], lengths: Sequence[int]) -> Estimate:
    """The mean over mel frames of what utterances have by frame, with its interval over utterances."""
    return ratio(np.multiply(values, lengths), lengths)
