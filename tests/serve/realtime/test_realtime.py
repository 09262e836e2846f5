"""Conversations by voice, with OpenAI's own client."""

import base64
import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import openai
import pytest
import torch
from loopback import QUESTION, serving
from openai.resources.realtime.realtime import RealtimeConnection
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from omnictl.data.audio.decoder import read_audio
from omnictl.generate.token_decoder import Choice
from omnictl.serve.model import ServedModel
from omnictl.serve.replies import completion
from omnictl.serve.replies.audio_formats import pcm_bytes

pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")  # of OpenAI's client

ANSWER = "It is red. "
HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
QUIET = np.zeros(24_000, np.float32)


@pytest.fixture
def talk(address: str) -> Iterator[RealtimeConnection]:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none")
    with client.realtime.connect(model="omnictl") as connection:
        assert until(connection, "session.created").session.id.startswith("sess_")
        yield connection


@pytest.fixture
def answers(served: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model answer the same thing over and over, for a while."""
    tokenizer = served.session.respondent.template.tokenizer
    tokens = tokenizer.encode(ANSWER * 3, markup=False)

    def choose_tokens(*_: object) -> Iterator[Choice]:
        for token in tokens:
            yield Choice(token, torch.zeros(tokenizer.vocab_size))
        return "stop"

    monkeypatch.setattr(completion, "choose_tokens", choose_tokens)


def until(connection: RealtimeConnection, kind: str, seen: list[Any] | None = None) -> Any:
    for _ in range(10_000):
        event = connection.recv()
        if seen is not None:
            seen.append(event)
        if event.type == kind:
            return event
        assert event.type != "error", event
    raise AssertionError(f"no {kind}")


def speak(connection: RealtimeConnection, samples: np.ndarray) -> None:  # type: ignore[type-arg]
    for start in range(0, len(samples), 4_800):
        data = base64.b64encode(pcm_bytes(samples[start : start + 4_800])).decode()
        connection.input_audio_buffer.append(audio=data)


def ask(connection: RealtimeConnection) -> None:
    speak(connection, np.concatenate([QUIET, read_audio(QUESTION, rate=24_000), QUIET]))


@pytest.mark.slow
def test_a_spoken_question_is_answered_in_writing(talk: RealtimeConnection, answers: None) -> None:
    talk.session.update(session={"type": "realtime", "output_modalities": ["text"]})
    assert until(talk, "session.updated").session.output_modalities == ["text"]
    ask(talk)
    seen: list[Any] = []
    done = until(talk, "response.done", seen)
    kinds = [event.type for event in seen]
    expected = [
        "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
        "conversation.item.added", "response.created", "response.output_item.added", "response.output_text.delta",
        "response.output_text.done", "response.done",
    ]  # fmt: skip
    assert [kind for kind in dict.fromkeys(kinds) if kind in expected] == expected
    assert done.response.status == "completed"
    assert done.response.output[0].content[0].text == ANSWER * 3
    assert done.response.usage.input_token_details.audio_tokens > 0
    if "conversation.item.input_audio_transcription.completed" not in kinds:
        until(talk, "conversation.item.input_audio_transcription.completed")


@pytest.mark.slow
def test_speaking_stops_the_answer_and_what_was_not_heard_is_forgotten(talk: RealtimeConnection, answers: None) -> None:
    talk.conversation.item.create(item=HELLO)  # type: ignore[arg-type]
    talk.response.create()
    item = until(talk, "response.output_item.added").item
    until(talk, "response.output_audio.delta")
    began = time.perf_counter()
    speak(talk, np.concatenate([QUIET[:2_400], read_audio(QUESTION, rate=24_000)]))
    seen: list[Any] = []
    until(talk, "input_audio_buffer.speech_started", seen)
    if "response.done" not in [event.type for event in seen]:
        stopped = until(talk, "response.done")
        assert (stopped.response.status, stopped.response.status_details.reason) == ("cancelled", "turn_detected")
    assert time.perf_counter() - began < 10
    talk.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=0)
    assert until(talk, "conversation.item.truncated").audio_end_ms == 0


@pytest.fixture
def hears_at_once(served: ServedModel) -> ServedModel:
    """The same with a recogniser that hears in chunks, and spells whatever comes."""
    recogniser = copy.copy(served.recogniser)
    assert recogniser is not None
    model = recogniser.config.model
    streaming = model.streaming.model_copy(update={"share": 0.5, "chunk": 4})
    recogniser.config = recogniser.config.model_copy(update={"model": model.model_copy(update={"streaming": streaming})})
    recogniser.model = copy.deepcopy(recogniser.model)
    recogniser.model.config = recogniser.config.model
    torch.nn.init.normal_(recogniser.model.head.weight, generator=torch.Generator().manual_seed(0))
    return replace(served, recogniser=recogniser)


@pytest.mark.slow
def test_words_are_told_while_they_are_said(hears_at_once: ServedModel) -> None:
    question = read_audio(QUESTION, rate=24_000)
    with serving(hears_at_once) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none")
        with client.realtime.connect(model="omnictl") as talk:
            talk.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            speak(talk, np.concatenate([QUIET, question]))
            turn = until(talk, "input_audio_buffer.speech_started").item_id
            told = until(talk, "conversation.item.input_audio_transcription.delta")
            assert told.item_id == turn
            assert told.delta.strip() == told.delta
            speak(talk, QUIET)
            seen: list[Any] = []
            heard = until(talk, "conversation.item.input_audio_transcription.completed", seen)
            assert heard.item_id == turn
            kinds = [event.type for event in seen]
            stopped = kinds.index("input_audio_buffer.speech_stopped")
            assert "conversation.item.input_audio_transcription.delta" not in kinds[stopped:]


def test_events_that_cannot_be_taken_are_named(talk: RealtimeConnection) -> None:
    for event, words in (
        ({"type": "no.such.event"}, "session.update"),
        ({"type": "input_audio_buffer.append", "audio": "%"}, "base64"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "3 bytes"),
        ({"type": "input_audio_buffer.commit"}, "holds 0 ms"),
        ({"type": "response.create"}, "nothing to answer yet"),
        ({"type": "response.cancel"}, "no reply to cancel"),
        ({"type": "response.cancel", "response_id": "x"}, "no reply 'x' to cancel"),
        ({"type": "conversation.item.create", "previous_item_id": "x", "item": HELLO}, "no item 'x'"),
        ({"type": "conversation.item.delete", "item_id": "x"}, "no item 'x'"),
        ({"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 1}, "no item 'x'"),
        ({"type": "session.update", "session": {"output_modalities": ["video"]}}, "output_modalities"),
        ({"type": "session.update", "session": {"audio": {"output": {"voice": "nobody"}}}}, "nobody"),
        ({"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}, "audio/pcm"),
    ):
        talk.send({"event_id": "mine", **event})  # type: ignore[arg-type]
        refused = talk.recv()
        assert refused.type == "error"
        assert words in f"{refused.error.message} {refused.error.param}"


def test_a_page_of_another_site_is_kept_out(address: str) -> None:
    url = address.replace("http", "ws") + "/v1/realtime?model=omnictl"
    with pytest.raises(WebSocketException, match="403"):
        connect(url, origin="https://example.com")  # type: ignore[arg-type]
    with connect(url, origin=address, subprotocols=["realtime"]) as socket:  # type: ignore[arg-type, list-item]
        assert socket.subprotocol == "realtime"
    with connect(address.replace("http", "ws") + "/v1/realtime?model=other") as socket:
        assert "does not exist here" in str(socket.recv())
