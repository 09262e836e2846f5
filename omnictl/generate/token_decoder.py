"""Autoregressive decoding with a key–value cache: the prompt is read once, then one position a token."""

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from omnictl.generate.sampling import SamplingConfig, choose_token
from omnictl.models.thinker import Thinker
from omnictl.nn.step_threads import step_threads


class Prompt(NamedTuple):
    """What a Thinker is to go on from: one prompt, or several that end together."""

    embeddings: Tensor  # (B, T, D)
    positions: Tensor | None = None  # (B, T, 3), if the model was trained with such
    padding: Tensor | None = None  # (B,) positions before each prompt that are none of it; None: all are of one length

    @classmethod
    def of(cls, model: Thinker, tokens: Sequence[int]) -> "Prompt":
        """One prompt of nothing but tokens."""
        ids = torch.tensor([list(tokens)], dtype=torch.int64, device=model.embedding.weight.device)
        return cls(model.embedding(ids).detach())


def generate(
    model: Thinker,
    prompt: Prompt,
    *,
    max_tokens: int,
    sampling: SamplingConfig,
    stop: Collection[int],
    generator: torch.Generator,
) -> Iterator[int]:
    """Continue a prompt.

    Args:
        model: in eval mode.
        prompt: one, of at least one position, shorter than the model's context.
        max_tokens: most tokens to write; the context's end stops as well.
        sampling: how tokens are chosen.
        stop: ids that end the text; they are not yielded.
        generator: source of randomness, on the CPU.

    Yields:
        Token ids as they are chosen.
    """
    for choice in choose_tokens(Reading(model, prompt, max_tokens), sampling, stop, generator):
        yield choice.token


class Choice(NamedTuple):
    """A token that was chosen."""

    token: int
    scores: Tensor  # (V,) of all tokens, as the model gave them


EndReason = Literal["stop", "length"]
"""Why a text ended: by a stop token, or because no more was allowed or fitted."""


class TokenReader(Protocol):
    """A text that was read, and can be read on."""

    @property
    def room(self) -> int:
        """Most tokens that may follow it."""
        ...

    def scores(self) -> Tensor:
        """`(B, V)` of what may come next."""
        ...

    def read(self, tokens: Sequence[int]) -> None:
        """Read one more token in each row, when the next scores are asked for."""
        ...


def choose_tokens(
    reading: TokenReader, sampling: SamplingConfig, stop: Collection[int], generator: torch.Generator
) -> Generator[Choice, None, EndReason]:
    """Continue what one prompt began; as `generate`, with the scores of every choice.

    Returns:
        Why it ended.
    """
    written: list[int] = []
    for _ in range(reading.room):
        scores = reading.scores()[0].cpu()
        token = choose_token(scores, sampling, previous=written, generator=generator)
        if token in stop:
            return "stop"
        written.append(token)
        if len(written) < reading.room:
            reading.read([token])
        yield Choice(token, scores)
    return "length"


def answer_greedily(model: Thinker, prompt: Prompt, *, max_tokens: int, stop: Collection[int]) -> list[list[int]]:
    """Continue several prompts with the likeliest tokens, side by side.

    Args:
        model: in eval mode.
        prompt: B prompts.
        max_tokens: most tokens to write; the context's end stops as well.
        stop: ids that end a text; they are not returned.

    Returns:
        The tokens written after each prompt.
    """
    reading = Reading(model, prompt, max_tokens)
    written: list[list[int]] = [[] for _ in prompt.embeddings]
    going_on = set(range(len(written)))
    for step in range(reading.room):
        tokens = reading.scores().argmax(-1).tolist()
        going_on -= {row for row in going_on if tokens[row] in stop}
        for row in going_on:
            written[row].append(tokens[row])
        if not going_on:
            break
        if step + 1 < reading.room:
            reading.read(tokens)
    return written


class Reading:
    """A model that has read something, and can read on.

    Args:
        model: in eval mode.
        prompt: what it reads.
        max_tokens: most tokens that it will read after that; the context's end stops as well.
    """

    def __init__(self, model: Thinker, prompt: Prompt, max_tokens: int) -> None:
        batch, length, _ = prompt.embeddings.shape
        self.room = min(max_tokens, model.config.context - length)
        assert length > 0 < self.room, f"a prompt of {length} positions in a context of {model.config.context}"
        self._model, self._threads = model, step_threads(model)
        self._unread: Sequence[int] | None = None
        self._cache = model.new_cache(batch=batch, capacity=length + self.room, padding=prompt.padding)
        self._now = None if prompt.positions is None else prompt.positions.amax((1, 2))  # (B,) position of the last one
        with torch.inference_mode():
            self._last = model(embeddings=prompt.embeddings, positions=prompt.positions, cache=self._cache).hidden[:, -1]

    def scores(self) -> Tensor:
        """`(B, V)` of what may come next."""
        if self._unread is not None:
            tokens, self._unread = self._unread, None
            self._step(tokens)
        with torch.inference_mode(), self._threads():
            return self._model.logits(self._last)

    def read(self, tokens: Sequence[int]) -> None:
        """Read one more token in each row, when the next scores are asked for."""
        self._unread = tokens

    def _step(self, tokens: Sequence[int]) -> None:
        positions = None
        if self._now is not None:
            self._now = self._now + 1
            positions = self._now[:, None, None].expand(-1, 1, 3)
        block = torch.tensor(tokens, device=self._last.device)[:, None]
        with torch.inference_mode(), self._threads():
            self._last = self._model(block, positions=positions, cache=self._cache).hidden[:, -1]
