"""Several texts at once: each is what it would be alone, whenever the others begin, rest and end."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.slot_pool import SlotPool
from omnictl.generate.token_decoder import Prompt, choose_tokens, generate
from omnictl.models.thinker import Thinker, ThinkerConfig

VOCAB, CONTEXT = 30, 24
GREEDY = SamplingConfig(temperature=0)
PROMPTS = [[3, 17, 5, 5, 9], [1], [4, 2, 22, 7, 9, 5, 5, 17, 3], [3, 17, 5, 5, 9, 8, 8], [29] * 20]
VARIANTS = {"dense": {}, "mixture": {"experts": 3}, "shifted": {"kv_shift": True}}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def model(request: pytest.FixtureRequest, randomise: Callable[[nn.Module], None]) -> Thinker:
    thinker = Thinker(
        ThinkerConfig(layers=2, width=16, heads=4, kv_heads=2, hidden=24, context=CONTEXT, **request.param), VOCAB
    ).eval()
    randomise(thinker)
    for block in thinker.blocks.parameters():
        block.data *= 4  # louder than the tied embedding, which by itself repeats the last token
    return thinker


def alone(model: Thinker, prompt: list[int], most: int = 100, sampling: SamplingConfig = GREEDY) -> list[int]:
    generator = torch.Generator().manual_seed(len(prompt))
    return list(generate(model, Prompt.of(model, prompt), max_tokens=most, sampling=sampling, stop=(), generator=generator))


def writing(pool: SlotPool, prompt: list[int], most: int = 100, sampling: SamplingConfig = GREEDY) -> Iterator[int]:
    reading = pool.open(Prompt.of(pool.model, prompt), most)
    try:
        for choice in choose_tokens(reading, sampling, (), torch.Generator().manual_seed(len(prompt))):
            yield choice.token
    finally:
        reading.close()


def test_texts_that_begin_at_different_times_are_those_written_alone(model: Thinker) -> None:
    pool, found = SlotPool(model, 2), {number: [] for number in range(len(PROMPTS))}  # more texts than slots
    texts: dict[int, Iterator[int]] = {}
    for turn in range(60):
        if turn % 2 == 0 and turn // 2 < len(PROMPTS):
            texts[turn // 2] = writing(pool, PROMPTS[turn // 2])
        for number in list(texts):
            if (turn + number) % 5 == 0:  # it rests
                continue
            token = next(texts[number], None)
            if token is None:
                del texts[number]
            else:
                found[number].append(token)
    assert found == {number: alone(model, prompt) for number, prompt in enumerate(PROMPTS)}
    assert len(set(found[2])) > 3


def test_each_is_chosen_from_in_its_own_way(model: Thinker) -> None:
    pool = SlotPool(model, 8)
    ways = [GREEDY, SamplingConfig(temperature=2.0, top_p=1), SamplingConfig(temperature=1.0, top_k=3, repetition_penalty=2)]
    texts = [writing(pool, PROMPTS[0], 10 + number, way) for number, way in enumerate(ways)]
    found: list[list[int]] = [[], [], []]
    for _ in range(20):
        for text, tokens in zip(texts, found, strict=True):
            tokens += [token for token in [next(text, None)] if token is not None]
    assert found == [alone(model, PROMPTS[0], 10 + number, way) for number, way in enumerate(ways)]


def test_all_that_wait_are_read_in_one_step(model: Thinker) -> None:
    pool = SlotPool(model, 4)
    texts = [writing(pool, prompt) for prompt in PROMPTS[:3]]
    for text in texts:
        next(text)
    steps: list[int] = []
    handle = model.register_forward_hook(lambda _, __, output: steps.append(len(output.hidden)))
    for _ in range(3):
        for text in texts:
            next(text)
    handle.remove()
    assert steps == [3, 3, 3]


def test_a_text_that_is_broken_off_frees_its_slot(model: Thinker) -> None:
    pool = SlotPool(model, 1)
    first = writing(pool, PROMPTS[0])
    next(first)
    first.close()
    assert list(writing(pool, PROMPTS[2])) == alone(model, PROMPTS[2])
    assert len(pool._cache) == 1


def test_what_a_slot_holds_is_not_read_again(model: Thinker) -> None:
    pool = SlotPool(model, 3)
    answer = list(writing(pool, PROMPTS[0], 6))
    next(writing(pool, [29, 1], 2))
    going_on = [*PROMPTS[0], *answer, 2, 7]
    read: list[int] = []
    handle = model.register_forward_hook(lambda _, __, output: read.append(output.hidden.shape[1]))
    reading = pool.open(Prompt.of(model, going_on), 100)
    handle.remove()
    known = 0 if model.config.kv_shift else len(PROMPTS[0]) + 5  # the answer's last token was never read
    assert (reading.known, read) == (known, [len(going_on) - known])
    reading.close()
    assert list(writing(pool, going_on)) == alone(model, going_on)
    again = pool.open(Prompt.of(model, PROMPTS[0]), 1)
    assert again.known == (0 if model.config.kv_shift else len(PROMPTS[0]) - 1)  # scores need one position to be read


@pytest.mark.parametrize("beyond", [0, 3])
def test_positions_of_media_go_on_where_they_end(model: Thinker, beyond: int) -> None:
    prompt = Prompt.of(model, PROMPTS[2])
    places = torch.tensor([[0, 1, 2, 2, 2, 2, 3, 4, 5 + beyond]])[..., None].expand(-1, -1, 3)
    placed = prompt._replace(positions=places)
    generator = torch.Generator()
    expected = list(generate(model, placed, max_tokens=8, sampling=GREEDY, stop=(), generator=generator))
    pool = SlotPool(model, 2)
    other = writing(pool, PROMPTS[1])
    next(other)
    reading, found = pool.open(placed, 8), []
    for choice in choose_tokens(reading, GREEDY, (), generator):
        found.append(choice.token)
        next(other)
    assert found == expected
