"""Hypotheses of a beam search ranked anew by a language model that reads whole sentences: a Thinker.

    score = -nats of the CTC model + weight · ln p(sentence)

A recogniser spells lower case without punctuation, a Thinker has read text as people write it. So it rates a hypothesis as a
sentence: a capital first, "I" for "i", and the likelier of a full stop and a question mark last. The sentence stands where a
document begins, and the document may go on after it. An empty hypothesis is an end mark alone, which few documents begin with.

Source: Hannun et al. 2014, "Deep Speech: Scaling up end-to-end speech recognition", for the score (there inside the search). Left
out: its bonus for words, names in capitals, commas, several sentences in one hypothesis, what was said before it.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from omnictl.data.text.tokenizer import END, PAD, Tokenizer
from omnictl.generate.ctc_search import Hypothesis
from omnictl.models.thinker import Thinker
from omnictl.nn.losses.cross_entropy import IGNORE, score_rows

SentenceRater = Callable[[Sequence[str]], Sequence[float]]
"""ln p of each of some texts as a recogniser spells them."""

END_MARKS = (".", "?")


def rescore(hypotheses: Sequence[Hypothesis], texts: Sequence[str], rate: SentenceRater, *, weight: float) -> list[Hypothesis]:
    """The hypotheses with new scores, best first; equal ones stay in order.

    Args:
        hypotheses: of one beam search, any number.
        texts: what they spell.
        rate: called once, with all texts.
        weight: how much its ln p counts.
    """
    rated = [
        hypothesis._replace(score=weight * log_prob - hypothesis.nats)
        for hypothesis, log_prob in zip(hypotheses, rate(texts), strict=True)
    ]
    return sorted(rated, key=lambda hypothesis: hypothesis.score, reverse=True)


def as_written(text: str) -> list[str]:
    """The sentences that a spelled text may be, one for each end mark."""
    text = re.sub(r"\bi\b", "I", text)
    return [f"{text[:1].upper()}{text[1:]}{mark}" for mark in END_MARKS]


class ThinkerRater:
    """A `SentenceRater`: texts as sentences that begin a document, by a Thinker in eval mode."""

    def __init__(self, model: Thinker, tokenizer: Tokenizer) -> None:
        assert not model.training, "dropout would make the scores random"
        self.model, self.tokenizer = model, tokenizer

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """ln p of each text with its likelier end mark, in nats."""
        sentences = [sentence for text in texts for sentence in as_written(text)]
        likelier: list[float] = self.log_probs(sentences).view(-1, len(END_MARKS)).amax(1).tolist()
        return likelier

    def log_probs(self, sentences: Sequence[str]) -> Tensor:
        """ln p of sentences, not empty, as beginnings of documents: `(N,)` in fp64 on the CPU, in one forward pass."""
        ids = self.tokenizer.encode_batch(sentences, markup=False)
        context = self.model.config.context
        rows = [(number, *piece) for number, sentence in enumerate(ids) for piece in _pieces(sentence, context)]
        numbers, inputs, predicted = zip(*rows, strict=True)
        tokens = pad_sequence([torch.tensor(row) for row in inputs], batch_first=True, padding_value=PAD)  # (B, T)
        targets = pad_sequence([torch.tensor(row) for row in predicted], batch_first=True, padding_value=IGNORE)  # (B, T)
        scored = targets != IGNORE
        weight = self.model.embedding.weight
        with torch.inference_mode():
            hidden = self.model(tokens.to(weight.device)).hidden  # (B, T, D); no position sees the padding, which comes last
            nats = score_rows(hidden[scored.to(weight.device)], weight, targets[scored].to(weight.device)).nats
        owners = torch.tensor(numbers)[:, None].expand_as(targets)[scored]
        return torch.zeros(len(sentences), dtype=torch.float64).index_add_(0, owners, nats.double().cpu(), alpha=-1)


def _pieces(ids: Sequence[int], context: int) -> Iterator[tuple[list[int], list[int]]]:
    """What a model reads and predicts, each id once; where they exceed its context, with half of it known before."""
    read = [END, *ids[:-1]]
    done = 0
    while done < len(ids):
        start = max(0, done - context // 2)
        stop = min(start + context, len(ids))
        yield read[start:stop], [*[IGNORE] * (done - start), *ids[done:stop]]
        done = stop
