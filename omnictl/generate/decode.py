"""Autoregressive decoding with a key–value cache: the prompt is read once, then one position a token."""

from collections.abc import Collection, Iterator, Sequence

import torch

from omnictl.generate.sampling import SamplingConfig, choose_token
from omnictl.models.thinker import Thinker


def generate(
    model: Thinker,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    sampling: SamplingConfig,
    stop: Collection[int],
    generator: torch.Generator,
) -> Iterator[int]:
    """Continue a prompt.

    Args:
        model: in eval mode.
        prompt: token ids, at least one, shorter than the model's context.
        max_tokens: most tokens to write; the context's end stops as well.
        sampling: how tokens are chosen.
        stop: ids that end the text; they are not yielded.
        generator: source of randomness, on the CPU.

    Yields:
        Token ids as they are chosen.
    """
    device = model.embedding.weight.device
    room = model.config.context - len(prompt)
    assert len(prompt) > 0 < room, f"a prompt of {len(prompt)} tokens in a context of {model.config.context}"
    cache = model.new_cache()
    written: list[int] = []
    block = torch.tensor([list(prompt)], device=device)
    for _ in range(min(max_tokens, room)):
        with torch.inference_mode():
            hidden = model(block, cache=cache).hidden[0, -1]  # (D,)
            scores = model.logits(hidden).cpu()  # (V,)
        token = choose_token(scores, sampling, previous=written, generator=generator)
        if token in stop:
            return
        yield token
        written.append(token)
        block = torch.tensor([[token]], device=device)
