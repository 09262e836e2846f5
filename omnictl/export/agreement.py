"""How far an export agrees with the model it was made of: the largest difference, and an error if that is too large."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from omnictl.errors import ExportError
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.token_decoder import Prompt, answer_greedily, generate
from omnictl.models.thinker import Thinker

NUM_PROMPTS, WRITTEN = 20, 64
"""Greedy texts that are compared, and the tokens of each."""

PROMPT_TOKENS = 12
NUM_SEQUENCES, SEQUENCE_TOKENS = 4, 128
"""Sequences whose scores are compared."""


class Agreement(NamedTuple):
    """What was compared, and the result."""

    what: str
    compared: int
    """Numbers or tokens."""
    difference: float
    """The largest of numbers, the share of tokens that differ."""
    allowed: float

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return self._asdict()


def compare(what: str, found: Tensor, expected: Tensor, *, allowed: float) -> Agreement:
    """Compare numbers of any shape.

    Raises:
        ExportError: the shapes or some numbers differ, or are not finite.
    """
    if found.shape != expected.shape:
        raise ExportError(
            f"{what}: the export gives shape {tuple(found.shape)}, the run {tuple(expected.shape)}", where=what, fix=_FIX
        )
    difference = float((found.double() - expected.double()).abs().max()) if found.numel() else 0.0
    if not difference <= allowed:
        raise ExportError(
            f"{what}: the export differs from the run by up to {difference:.3g}, allowed are {allowed:g}", where=what, fix=_FIX
        )
    return Agreement(what, found.numel(), difference, allowed)


_FIX = "nothing was written; use the versions of the libraries that pyproject.toml names, or export the run in another format"


@torch.no_grad()
def compare_choices(
    what: str,
    thinker: Thinker,
    prompts: Sequence[Sequence[int]],
    written: Sequence[Sequence[int]],
    *,
    tie: float = 0.0,
    allowed: float = 0.0,
) -> Agreement:
    """Compare greedy texts: each token must be the run's own likeliest one after the same tokens.

    Args:
        what: for the error.
        thinker: the run's.
        prompts: token ids.
        written: by the export, after each prompt.
        tie: scores so close are as good as equal.
        allowed: share of tokens that may be others.

    Raises:
        ExportError: too many are.
    """
    total, others, first = 0, 0, ""
    for prompt, text in zip(prompts, written, strict=True):
        scores = score(thinker, torch.tensor([[*prompt, *text]]))[0, len(prompt) - 1 : -1]  # (T, V)
        ids = torch.tensor(list(text))
        others_here = scores.gather(1, ids[:, None])[:, 0] < scores.amax(1) - tie
        total, others = total + len(text), others + int(others_here.sum())
        if bool(others_here.any()) and not first:
            place = int(others_here.nonzero()[0])
            first = f"after {[*prompt, *text[:place]]} it writes {text[place]}, the run {int(scores[place].argmax())}"
    share = others / max(total, 1)
    if share > allowed:
        raise ExportError(
            f"{what}: {others} of {total} tokens are not those that the run writes, allowed are {allowed:.0%}; {first}",
            where=what,
            fix=_FIX,
        )
    return Agreement(what, total, share, allowed)


def sample_sequences(vocab_size: int, context: int, *, number: int, length: int) -> Tensor:
    """`(number, length)` token ids below `vocab_size`, at most as long as the context; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size, (number, min(length, context)), generator=generator)


def scale_of(scores: Tensor) -> float:
    """The largest of some scores, at least 1: what differences of rounding grow with."""
    return max(1.0, float(scores.abs().max()))


@torch.no_grad()
def score(thinker: Thinker, sequences: Tensor) -> Tensor:
    """`(B, T, V)` scores of token ids `(B, T)`."""
    return thinker.logits(thinker(sequences).hidden)


def sample_prompts(thinker: Thinker) -> list[list[int]]:
    """Prompts of equal length for greedy texts: what the model itself begins with."""
    vocab_size, context = thinker.embedding.weight.shape[0], thinker.config.context
    length = max(1, min(PROMPT_TOKENS, context - WRITTEN))
    sampling, generator = SamplingConfig(temperature=1.0, top_p=0.9), torch.Generator().manual_seed(0)
    first = torch.randint(vocab_size, (NUM_PROMPTS,), generator=generator).tolist()
    if length == 1:
        return [[token] for token in first]
    prompts = (Prompt.of(thinker, [token]) for token in first)
    written = (
        generate(thinker, prompt, max_tokens=length - 1, sampling=sampling, stop=(), generator=generator) for prompt in prompts
    )
    return [[token, *rest] for token, rest in zip(first, written, strict=True)]


def room(thinker: Thinker, prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that are written after each prompt."""
    return min(WRITTEN, thinker.config.context - max(map(len, prompts)))


def write_greedily(thinker: Thinker, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The likeliest tokens after prompts of equal length, whatever they are."""
    embeddings = thinker.embedding(torch.tensor([list(prompt) for prompt in prompts])).detach()
    return answer_greedily(thinker, Prompt(embeddings), max_tokens=room(thinker, prompts), stop=())
