"""What a Thinker makes of a text that is read aloud: a state for each symbol, for a Talker that reads along."""

from collections.abc import Callable

import torch
from torch import Tensor

from omnictl.data.text.tokenizer import Tokenizer
from omnictl.models.thinker import Thinker

Conditioner = Callable[[str], Tensor]
"""Gives the states `(T + 2, D)` of a text of T symbols and its two edges."""


class ThinkerConditioner:
    """A `Conditioner` with a Thinker in eval mode: at a symbol it has read the token that the symbol belongs to, and all before."""

    def __init__(self, model: Thinker, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @torch.no_grad()
    def __call__(self, text: str) -> Tensor:
        """The states `(T + 2, D)` of a text; the edges have the states of the first and the last token."""
        ids, offsets = self.tokenizer.encode_with_offsets(text, markup=False)
        context = self.model.config.context
        device = next(self.model.parameters()).device
        hidden = self.model(torch.tensor([ids[-context:]], device=device)).hidden[0].float().cpu()
        owner = [0] * len(text)
        for number, (start, stop) in enumerate(offsets[-context:]):
            owner[start:stop] = [number] * (stop - start)
        states: Tensor = hidden[[0, *owner, -1]]
        return states
