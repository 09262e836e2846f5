"""A conversation with a Thinker: history, prompt, streamed reply.

A model that was trained on dialogues (its model folder says `chat: chatml`) answers turns in ChatML; any other model continues the
text it is given.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from omnictl.data.tokenizer import END, IM_END, IM_START, Tokenizer
from omnictl.generate.decode import generate
from omnictl.generate.sampling import SamplingConfig
from omnictl.models.thinker import Thinker
from omnictl.runs.model_folder import read_config, read_description
from omnictl.stages.pretrain import PretrainConfig
from omnictl.train.checkpoint import load_weights

Mode = Literal["chatml", "text"]


@dataclass(frozen=True)
class Turn:
    """What one side said."""

    role: Literal["user", "assistant"]
    text: str


@dataclass
class Reply:
    """What happened while a reply was written."""

    text: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    dropped_tokens: int = 0
    """Tokens of the oldest turns that did not fit into the context."""
    first_token_seconds: float | None = None


@dataclass
class Session:
    """A model and what was said so far."""

    model: Thinker
    tokenizer: Tokenizer
    mode: Mode
    generator: torch.Generator = field(default_factory=torch.Generator)
    history: list[Turn] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, device: torch.device) -> "Session":
        """A session with the model of a run's model folder.

        Raises:
            CheckpointError: it is not a whole model folder.
        """
        described = read_description(folder, "pretrain")
        model = Thinker(read_config(folder, "pretrain", PretrainConfig).model, described["vocab_size"])
        load_weights(folder / "model.safetensors", model)
        return cls(model.to(device).eval(), Tokenizer.load(folder / "tokenizer.json"), described["chat"])

    def reply(self, text: str, sampling: SamplingConfig, *, max_tokens: int, into: Reply) -> Iterator[str]:
        """Say something and stream the answer, piece by piece; `into` is filled in meanwhile.

        The turn joins the history when the answer is complete; one that is broken off leaves no trace.
        """
        began = time.perf_counter()
        turns = [*self.history, Turn("user", text)]
        context = self.model.config.context
        prompt = self._fitting_prompt(turns, room=context - 1 - min(max_tokens, context // 2))
        into.prompt_tokens = len(prompt)
        into.dropped_tokens = len(self._prompt(turns)) - len(prompt)
        stream = self.tokenizer.stream()
        for token in generate(
            self.model,
            [END, *prompt],
            max_tokens=max_tokens,
            sampling=sampling,
            stop={END, IM_END, IM_START},
            generator=self.generator,
        ):
            if into.first_token_seconds is None:
                into.first_token_seconds = time.perf_counter() - began
            piece = stream.push(token)
            into.text += piece
            into.new_tokens += 1
            yield piece
        if self.mode == "chatml":
            self.history += [Turn("user", text), Turn("assistant", into.text)]

    def _fitting_prompt(self, turns: Sequence[Turn], room: int) -> list[int]:
        """The prompt without the oldest exchanges, and if one message alone is too long, without its beginning."""
        prompt = self._prompt(turns)
        while len(prompt) > room and len(turns) > 1:
            turns = turns[2:]
            prompt = self._prompt(turns)
        return prompt[-room:]

    def _prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Token ids of the conversation, up to where the assistant begins."""
        if self.mode == "text":
            return self.tokenizer.encode(turns[-1].text, markup=False)
        ids = [token for turn in turns for token in [*self._opening(turn.role), *self._closed(turn.text)]]
        return [*ids, *self._opening("assistant")]

    def _opening(self, role: str) -> list[int]:
        return [IM_START, *self.tokenizer.encode(f"{role}\n", markup=False)]

    def _closed(self, text: str) -> list[int]:
        return [*self.tokenizer.encode(text, markup=False), IM_END, *self.tokenizer.encode("\n", markup=False)]
