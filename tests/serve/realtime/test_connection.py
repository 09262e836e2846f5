"""A conversation without a network in between: events right behind each other, and what comes back."""

import asyncio
import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from starlette.websockets import WebSocket, WebSocketState

from omnictl.generate.slot_pool import SlotPool
from omnictl.serve.metrics import ServeMetrics
from omnictl.serve.model import ServedModel
from omnictl.serve.realtime import connection, dialogue, partial_transcript
from omnictl.serve.realtime.partial_transcript import PartialTranscript
from omnictl.serve.realtime.reply import RealtimeReply
from omnictl.serve.replies.completion import Begun, ChoiceEnd, CompletionEvent, Unsaid
from omnictl.serve.service import Service
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.limits import ServeLimits
from omnictl.serve.traffic.scheduler import Scheduler

PATIENCE = 60
"""Seconds until a test has failed."""

Told = list[dict[str, Any]]

SILENCE = base64.b64encode(bytes(2 * 4_800)).decode()
ANSWER = {"type": "response.create"}
IN_WRITING = {"type": "session.update", "session": {"output_modalities": ["text"]}}


def say(item_id: str, **part: str) -> dict[str, Any]:
    """An item of the user."""
    content = part or {"type": "input_text", "text": "hi"}
    item = {"type": "message", "role": "user", "id": item_id, "content": [content]}
    return {"type": "conversation.item.create", "item": item}


class Client:
    """In place of a socket: sends its steps one right behind the other; before a word it waits for an event of that type."""

    application_state = WebSocketState.CONNECTED

    def __init__(self, steps: tuple[dict[str, Any] | str, ...]) -> None:
        self.query_params: dict[str, str] = {}
        self.told: Told = []
        self._steps, self._news = list(steps), asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, dict):
                return {"type": "websocket.receive", "text": json.dumps(step)}
            while step not in [event["type"] for event in self.told]:
                self._news.clear()
                await self._news.wait()
        return {"type": "websocket.disconnect"}

    async def send_json(self, event: dict[str, Any]) -> None:
        self.told.append(event)
        self._news.set()


def converse(model: ServedModel, *steps: dict[str, Any] | str, limits: ServeLimits | None = None) -> Told:
    """What is told until the client leaves; afterwards nothing is computed for it any more."""

    async def main() -> Told:
        bounds = limits or ServeLimits()
        scheduler = Scheduler(bounds)
        pool = SlotPool(model.session.respondent.model.thinker, bounds.active)
        service = Service(model, bounds, scheduler, ServeMetrics(scheduler), pool, "level")
        client = Client(steps)
        try:
            async with asyncio.timeout(PATIENCE):
                await connection.RealtimeConversation(cast("WebSocket", client), service).run()
                while scheduler.num_active + scheduler.num_waiting:
                    await asyncio.sleep(0)
        finally:
            scheduler.close()
        return client.told

    return asyncio.run(main())


def only(told: Told, kind: str) -> dict[str, Any]:
    (event,) = [event for event in told if event["type"] == kind]
    return event


def endless(*_: object) -> Iterator[CompletionEvent | None]:
    while True:
        yield None


def brief(_session: object, read: Any, *_: object) -> Iterator[CompletionEvent | None]:
    yield Begun(read)
    yield ChoiceEnd(0, "stop", "", 0, 0)


def broken(*_: object) -> Iterator[Any]:
    raise ValueError("a mistake")
    yield None


def test_a_reply_that_is_cancelled_at_once_is_told_of_and_gives_its_place_back(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "complete", endless)
    told = converse(served, IN_WRITING, say("a"), ANSWER, {"type": "response.cancel"}, "response.done")
    assert only(told, "response.done")["response"]["status"] == "cancelled"
    assert "error" not in [event["type"] for event in told]


def test_only_the_reply_that_is_named_is_cancelled(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "complete", endless)
    told = converse(served, IN_WRITING, say("a"), ANSWER, {"type": "response.cancel", "response_id": "x"}, "error")
    assert "no reply 'x'" in only(told, "error")["error"]["message"]


def test_a_reply_that_is_refused_leaves_no_item(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> None:
        raise RequestError("busy", fix="wait", status=429)

    monkeypatch.setattr(Scheduler, "submit", submit)
    told = converse(served, IN_WRITING, say("a"), ANSWER, say("b"))
    assert only(told, "error")["error"]["message"].startswith("busy")
    added = [event for event in told if event["type"] == "conversation.item.added"]
    assert [(event["previous_item_id"], event["item"]["id"]) for event in added] == [(None, "a"), ("a", "b")]


def test_a_conversation_that_is_full_computes_no_reply(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "complete", endless)
    monkeypatch.setattr(dialogue, "MOST_ITEMS", 1)
    told = converse(served, IN_WRITING, say("a"), ANSWER)
    assert "1 items" in only(told, "error")["error"]["message"]


def test_a_mistake_ends_a_reply(served: ServedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(connection, "complete", broken)
    told = converse(served, IN_WRITING, say("a"), ANSWER, "response.done")
    assert only(told, "error")["error"]["type"] == "server_error"
    assert only(told, "response.done")["response"]["status"] == "failed"
    assert "ValueError: a mistake" in caplog.text


def test_a_mistake_ends_a_transcription(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "transcribe_windows", broken)
    by_hand = {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}}
    append, commit = {"type": "input_audio_buffer.append", "audio": SILENCE}, {"type": "input_audio_buffer.commit"}
    failed = "conversation.item.input_audio_transcription.failed"
    told = converse(served, by_hand, append, commit, failed)
    assert only(told, failed)["error"]["type"] == "server_error"
    assert "ValueError: a mistake" in caplog.text


def test_words_that_cannot_be_told_meanwhile_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_transcript, "TranscriptStream", lambda _: SimpleNamespace(push=broken))
    failures: list[Exception] = []

    async def tell(_: str) -> None:
        raise AssertionError

    async def fail(error: Exception) -> None:
        failures.append(error)

    async def main() -> None:
        scheduler = Scheduler(ServeLimits())
        try:
            partial = PartialTranscript(cast("Any", SimpleNamespace(rate=16_000)), scheduler, tell, fail)
            for _ in range(2):
                partial.push(np.zeros(4_800, np.float32))
                assert partial._listening is not None
                await asyncio.wait_for(partial._listening, PATIENCE)
            await partial.close()
        finally:
            scheduler.close()

    asyncio.run(main())
    assert [str(error) for error in failures] == ["a mistake"]


@pytest.mark.parametrize(("truncation", "status"), [("auto", "completed"), ("disabled", "failed")])
def test_the_oldest_recordings_are_left_out_if_that_is_allowed(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch, truncation: str, status: str
) -> None:
    monkeypatch.setattr(connection, "complete", brief)
    settings = {"type": "session.update", "session": {"output_modalities": ["text"], "truncation": truncation}}
    turns = [say(name, type="input_audio", audio=SILENCE) for name in "ab"]
    told = converse(served, settings, *turns, ANSWER, "response.done", limits=ServeLimits(images=1))
    assert only(told, "response.done")["response"]["status"] == status
    errors = [event["error"]["message"] for event in told if event["type"] == "error"]
    assert ["1 images and recordings" in error for error in errors] == [True] * (status == "failed")


def test_instructions_have_a_bound(served: ServedModel) -> None:
    long = "x" * 1_000_001
    told = converse(
        served,
        {"type": "session.update", "session": {"instructions": long}},
        {**ANSWER, "response": {"instructions": long}},
        say("a"),
    )
    errors = [event["error"]["param"] for event in told if event["type"] == "error"]
    assert [param.rpartition(".")[2] for param in errors] == ["instructions", "instructions"]
    assert told[-1]["type"] == "conversation.item.done"


def test_where_speech_ends_before_the_text_is_told() -> None:
    (event,) = RealtimeReply(24_000).take(Unsaid(0, "the text has: э"))
    assert (event["type"], "has: э" in str(event["error"])) == ("error", True)
