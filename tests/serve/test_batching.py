"""Replies that are written at the same time, and what of a conversation is not read again."""

import asyncio

import httpx
import pytest
from loopback import serving

from omnictl.serve.model import ServedModel
from omnictl.serve.traffic.limits import ServeLimits

CHAT = "/v1/chat/completions"


def asking(number: int) -> dict[str, object]:
    """A question, and how it is to be answered; the server's model has learned nothing and says anything."""
    text = ["hello", "what do cats eat", "a b c d e f g", "the red circle is left of the blue square"][number % 4]
    way = {} if number < 4 else {"temperature": 3.0, "seed": number}
    return {"model": "omnictl", "messages": [{"role": "user", "content": text}], "max_tokens": 5 + number, **way}


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    content = response.json()["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def test_eight_clients_at_once_are_answered_as_each_alone(client: httpx.Client, address: str) -> None:
    alone = [text_of(client.post(CHAT, json=asking(number))) for number in range(8)]

    async def together() -> list[str]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as several:
            return [text_of(response) for response in await asyncio.gather(*(several.post(CHAT, json=asking(n)) for n in range(8)))]

    assert asyncio.run(together()) == alone
    assert len(set(alone)) > 4


def test_several_replies_to_one_question_are_those_of_their_seeds(client: httpx.Client) -> None:
    asked = {**asking(5), "seed": 40}
    three = [choice["message"]["content"] for choice in client.post(CHAT, json={**asked, "n": 3}).json()["choices"]]
    assert three == [text_of(client.post(CHAT, json={**asked, "seed": 40 + number})) for number in range(3)]


def test_what_a_conversation_repeats_is_not_read_again(served: ServedModel) -> None:
    with serving(served) as url, httpx.Client(base_url=url, timeout=60) as client:

        def usage(*texts: str) -> tuple[int, int]:
            roles = ("user", "assistant", "user")
            messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
            told = client.post(CHAT, json={"model": "omnictl", "messages": messages, "max_tokens": 1}).json()["usage"]
            return told["prompt_tokens"], told["prompt_tokens_details"]["cached_tokens"]

        first, cached = usage("how many cats are there")
        assert cached == 0
        assert usage("how many cats are there") == (first, first - 1)  # the last position says what comes next
        _, cached = usage("how many cats are there", "two", "and dogs")
        assert first - 4 <= cached <= first


@pytest.mark.parametrize("number", [1, 2])
def test_more_replies_than_slots_are_written(served: ServedModel, number: int) -> None:
    with serving(served, ServeLimits(active=1)) as url, httpx.Client(base_url=url, timeout=60) as client:
        choices = client.post(CHAT, json={**asking(0), "n": number}).json()["choices"]
        assert len({choice["message"]["content"] for choice in choices}) == 1  # the likeliest, each time
        assert len(choices) == number
