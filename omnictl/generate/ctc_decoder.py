"""How a CTC model's log-probabilities become text: along the best path, or by a beam search, perhaps with language models."""

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from omnictl.config import Config
from omnictl.data.speech.transcripts.targets import Targets
from omnictl.generate.ctc_search import SymbolScorer, greedy, prefix_beam_search
from omnictl.generate.rescore import SentenceRater, rescore


class DecodingConfig(Config):
    """How the model is read out, in validation, evaluation and use."""

    beam: int = Field(1, ge=1, le=10_000, description="width of the prefix beam search; 1: the best path, no language model")
    lm_weight: float = Field(0.5, ge=0, description="weight of an n-gram of the training transcripts' symbols in the search")
    order: int = Field(6, ge=1, le=100, description="symbols of an n-gram")


@dataclass(frozen=True)
class Decoding:
    """A way to read.

    A scorer works inside the search and decides which hypotheses there are; a rater chooses among them, by its own score and the
    audio's alone (`omnictl.generate.rescore`).
    """

    beam: int = 1
    """1: the best path."""
    scorer: SymbolScorer[Any] | None = None
    rater: SentenceRater | None = None
    lm_weight: float = 0.5
    """How much each of them counts beside the audio."""

    def __post_init__(self) -> None:
        has_model = self.scorer is not None or self.rater is not None
        assert self.beam > 1 or not has_model, "the best path takes no language model"

    def ids(self, log_probs: Tensor, targets: Targets) -> list[int]:
        """The ids of `(S, V)` log-probabilities."""
        if self.beam == 1:
            return greedy(log_probs[None], torch.tensor([len(log_probs)]))[0]
        hypotheses = prefix_beam_search(log_probs, beam_width=self.beam, scorer=self.scorer, scorer_weight=self.lm_weight)
        if self.rater is not None:
            texts = [" ".join(targets.decode(hypothesis.ids).split()) for hypothesis in hypotheses]
            hypotheses = rescore(hypotheses, texts, self.rater, weight=self.lm_weight)
        return hypotheses[0].ids
