"""A conversation without a network in between: events right behind each other, and what comes back."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
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
from omnictl.serve.replies.audio_formats import pcm_bytes
from omnictl.serve.replies.completion import AudioDelta, Begun, ChoiceEnd, CompletionEvent, TextDelta, Unsaid
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


Step = dict[str, Any] | str | Callable[[Told], dict[str, Any]]


class Client:
    """In place of a socket: sends its steps one right behind the other, some made of what it was told; before a word it waits for
    an event of that type."""

    application_state = WebSocketState.CONNECTED

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.query_params: dict[str, str] = {}
        self.told: Told = []
        self._steps, self._news = list(steps), asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        while self._steps:
            step = self._steps.pop(0)
            if not isinstance(step, str):
                return {"type": "websocket.receive", "text": json.dumps(step if isinstance(step, dict) else step(self.told))}
            while step not in [event["type"] for event in self.told]:
                self._news.clear()
                await self._news.wait()
        return {"type": "websocket.disconnect"}

    async def send_json(self, event: dict[str, Any]) -> None:
        self.told.append(event)
        self._news.set()


def converse(model: ServedModel, *steps: Step, limits: ServeLimits | None = None, counted: dict[str, float] | None = None) -> Told:
    """What is told until the client leaves; afterwards nothing is computed for it any more. `counted` is given what the server has
    counted then."""

    async def main() -> Told:
        bounds = limits or ServeLimits()
        scheduler = Scheduler(bounds)
        pool = SlotPool(model.session.respondent.model.thinker, bounds.active)
        metrics = ServeMetrics(scheduler)
        service = Service(model, bounds, scheduler, metrics, pool, "level")
        client = Client(steps)
        try:
            async with asyncio.timeout(PATIENCE):
                await connection.RealtimeConversation(cast("WebSocket", client), service).run()
                while scheduler.num_active + scheduler.num_waiting:
                    await asyncio.sleep(0)
        finally:
            scheduler.close()
        if counted is not None:
            lines = [line.rpartition(" ") for line in metrics.text().decode().splitlines() if not line.startswith("#")]
            counted.update((name, float(value)) for name, _, value in lines)
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


def spoken(_session: object, read: Any, *_: object) -> Iterator[CompletionEvent | None]:
    """Loud, and long enough for all that follows."""
    yield Begun(read)
    yield TextDelta(0, "It is red.", ())
    yield AudioDelta(0, np.full(480_000, 0.9, np.float32), (("It is red.", 0.0),))
    yield ChoiceEnd(0, "stop", "It is red.", 3, 0)


def only_written(_session: object, read: Any, *_: object) -> Iterator[CompletionEvent | None]:
    """The text of a reply of which nothing is said yet."""
    yield Begun(read)
    yield TextDelta(0, "It is red.", ())
    yield from endless()


def truncate(told: Told) -> dict[str, Any]:
    """The newest reply was not heard."""
    item = [event["item"] for event in told if event["type"] == "response.output_item.added"][-1]
    return {"type": "conversation.item.truncate", "item_id": item["id"], "audio_end_ms": 0}


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
    told = converse(served, {**IN_WRITING, "session": {**IN_WRITING["session"], "truncation": "disabled"}}, say("a"), ANSWER)
    assert "1 items" in only(told, "error")["error"]["message"]


def test_a_conversation_that_is_full_goes_on_without_its_oldest_items(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "complete", brief)
    monkeypatch.setattr(dialogue, "MOST_ITEMS", 2)
    told = converse(served, IN_WRITING, say("a"), say("b"), say("c"), ANSWER, "response.done")
    assert [event["item_id"] for event in told if event["type"] == "conversation.item.deleted"] == ["a", "b"]
    assert only(told, "response.done")["response"]["status"] == "completed"


def test_a_spoken_reply_that_is_stopped_before_its_first_audio_is_forgotten(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "complete", only_written)
    written, stop = "response.output_audio_transcript.delta", {"type": "response.cancel"}
    told = converse(served, say("a"), ANSWER, written, stop, "response.done", truncate, "conversation.item.truncated")
    assert "error" not in [event["type"] for event in told]
    (item,) = only(told, "response.done")["response"]["output"]
    assert item["content"] == [{"type": "output_audio", "transcript": ""}]
    told = converse(served, IN_WRITING, say("a"), ANSWER, "response.output_text.delta", stop, "response.done", truncate)
    (item,) = only(told, "response.done")["response"]["output"]
    assert item["content"] == [{"type": "output_text", "text": "It is red."}]
    assert "only spoken replies" in only(told, "error")["error"]["message"]


def test_speech_after_a_reply_that_was_stopped_is_no_echo_of_it(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "complete", spoken)
    rng = np.random.default_rng(0)
    heard = np.concatenate([rng.normal(0, 1e-4, 24_000), rng.normal(0, 0.1, 7_200)])  # quiet, then 5 dB below what an echo may be
    append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm_bytes(heard.astype(np.float32))).decode()}
    started = "input_audio_buffer.speech_started"
    told = converse(served, say("a"), ANSWER, "response.done", append)
    assert started not in [event["type"] for event in told]
    told = converse(served, say("a"), ANSWER, "response.done", truncate, append)
    assert started in [event["type"] for event in told]


def test_what_is_read_written_said_and_heard_is_counted(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "complete", spoken)
    by_hand = {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}}
    append, commit = {"type": "input_audio_buffer.append", "audio": SILENCE}, {"type": "input_audio_buffer.commit"}
    counted: dict[str, float] = {}
    heard = "conversation.item.input_audio_transcription.completed"
    converse(served, by_hand, append, commit, heard, ANSWER, "response.done", counted=counted)
    rate = served.require_voice().vocoder.sample_rate
    assert counted["omnictl_speech_seconds_total"] == pytest.approx(480_000 / rate, rel=0.01)
    assert counted["omnictl_heard_seconds_total"] == pytest.approx(0.2, abs=0.01)
    assert counted['omnictl_tokens_total{kind="new"}'] == 3
    assert min(counted[f'omnictl_tokens_total{{kind="{kind}"}}'] for kind in ("text", "audio")) > 0
    assert counted["omnictl_first_token_seconds_count"] == counted["omnictl_first_audio_seconds_count"] == 1


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
    reply = RealtimeReply(24_000)
    list(reply.take(TextDelta(0, "это", ())))
    (event,) = reply.take(Unsaid(0, "the text has: э"))
    assert (event["type"], "has: э" in str(event["error"])) == ("error", True)
    reply.status = "cancelled"
    list(reply.end())
    assert reply.item.text == "это"  # which was read
