from collections.abc import Callable, Collection, Sequence

import pytest
import torch
from torch import nn

from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.token_decoder import Prompt, Reading, answer_greedily, generate
from omnictl.models.thinker import Thinker, ThinkerConfig

VOCAB, CONTEXT = 30, 24
GREEDY = SamplingConfig(temperature=0)
PROMPT = [3, 17, 5, 5, 9]


@pytest.fixture(params=[{}, {"experts": 3}, {"kv_shift": True}], ids=["dense", "mixture", "shifted"])
def model(request: pytest.FixtureRequest, randomise: Callable[[nn.Module], None]) -> Thinker:
    config = ThinkerConfig(layers=2, width=16, heads=4, kv_heads=2, hidden=24, context=CONTEXT, **request.param)
    thinker = Thinker(config, VOCAB).eval()
    randomise(thinker)
    for block in thinker.blocks.parameters():
        block.data *= 4  # louder than the tied embedding, which by itself repeats the last token
    return thinker


def written(
    model: Thinker,
    prompt: Sequence[int] = PROMPT,
    *,
    max_tokens: int = 100,
    sampling: SamplingConfig = GREEDY,
    stop: Collection[int] = (),
    seed: int = 0,
) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return list(generate(model, Prompt.of(model, prompt), max_tokens=max_tokens, sampling=sampling, stop=stop, generator=generator))


@torch.no_grad()
def test_greedy_is_the_likeliest_token_after_rereading_everything(model: Thinker) -> None:
    ids = list(PROMPT)
    while len(ids) < CONTEXT:
        ids.append(int(model.logits(model(torch.tensor([ids])).hidden[0, -1]).argmax()))
    continuation = ids[len(PROMPT) :]
    assert len(set(continuation)) > 3  # not one token again and again
    assert written(model) == continuation


def test_writing_ends_at_max_tokens_and_at_the_context(model: Thinker) -> None:
    assert len(written(model, max_tokens=4)) == 4
    assert written(model, max_tokens=4) == written(model)[:4]
    assert len(written(model)) == CONTEXT - len(PROMPT)


def test_a_stop_token_ends_the_text_and_is_not_yielded(model: Thinker) -> None:
    text = written(model)
    stop = next(token for token in text if token != text[0])
    assert written(model, stop={stop}) == text[: text.index(stop)]


def test_tokens_come_one_by_one(model: Thinker) -> None:
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    stream = generate(model, Prompt.of(model, PROMPT), max_tokens=9, sampling=GREEDY, stop=(), generator=torch.Generator())
    next(stream)
    assert len(calls) == 1
    next(stream)
    assert len(calls) == 2
    handle.remove()


def test_the_same_seed_writes_the_same_text(model: Thinker) -> None:
    warm = SamplingConfig(temperature=2.0, top_p=1)
    assert written(model, sampling=warm, seed=1) == written(model, sampling=warm, seed=1)
    assert written(model, sampling=warm, seed=1) != written(model, sampling=warm, seed=2)


def test_the_penalty_knows_what_was_written(model: Thinker) -> None:
    text = written(model, sampling=SamplingConfig(temperature=0, repetition_penalty=10))
    assert len(set(text)) > len(set(written(model)))


@pytest.mark.parametrize("length", [0, CONTEXT])
def test_a_prompt_needs_a_token_and_room_for_one_more(model: Thinker, length: int) -> None:
    with pytest.raises(AssertionError, match=f"a prompt of {length} positions in a context of {CONTEXT}"):
        written(model, [1] * length)


def test_prompts_side_by_side_are_answered_as_one_by_one(model: Thinker) -> None:
    prompts = [PROMPT, [1, 2, 3, 4, 5], [9, 5, 5, 17, 3]]
    together = Prompt(torch.cat([Prompt.of(model, prompt).embeddings for prompt in prompts]))
    stop = {written(model)[3]}
    found = answer_greedily(model, together, max_tokens=12, stop=stop)
    assert found == [written(model, prompt, max_tokens=12, stop=stop) for prompt in prompts]
    assert len({len(each) for each in found}) > 1  # some ended before the others


@pytest.mark.parametrize("placed", [False, True])
@torch.no_grad()
def test_prompts_of_unequal_length_are_answered_as_one_by_one(model: Thinker, *, placed: bool) -> None:
    prompts = [PROMPT, [1], [4, 2, 22, 7, 9, 5, 5, 17, 3]]
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    tokens = torch.tensor([[11] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)])
    places = (torch.arange(longest) - torch.tensor(padding)[:, None]).clamp(min=0)[..., None].expand(-1, -1, 3)
    together = Prompt(model.embedding(tokens), places if placed else None, torch.tensor(padding))
    reading = Reading(model, together, 12)
    for prompt, scores in zip(prompts, reading.scores(), strict=True):
        own = torch.arange(len(prompt))[None, :, None].expand(-1, -1, 3) if placed else None
        alone = Reading(model, Prompt.of(model, prompt)._replace(positions=own), 12)
        torch.testing.assert_close(scores, alone.scores()[0])
    stop = {written(model)[3]}
    found = answer_greedily(model, together, max_tokens=12, stop=stop)
    if not placed:
        assert found == [written(model, prompt, max_tokens=12, stop=stop) for prompt in prompts]
    assert len({len(each) for each in found}) > 1
