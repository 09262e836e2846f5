"""One reply of a voice conversation, as the events that tell of it."""

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from omnictl.serve.endpoints.chat_schema import TextPart
from omnictl.serve.realtime.dialogue import Item, new_id
from omnictl.serve.realtime.voice_activity import level_db
from omnictl.serve.replies.audio_formats import PCM_HZ, SpeechEncoder
from omnictl.serve.replies.completion import AudioDelta, Begun, CompletionEvent, TextDelta, Unsaid
from omnictl.serve.replies.conversation import ReadConversation
from omnictl.serve.traffic.errors import RequestError, error_body

Event = dict[str, object]

HEAD_START_SECONDS = 0.5
"""Of speech that is there before anything else of the conversation is computed."""

Status = Literal["in_progress", "completed", "cancelled", "incomplete", "failed"]


@dataclass
class RealtimeReply:
    """A reply that is being written and said.

    Args:
        rate: of the voice; None: it is only written.
        metadata: what the client wants to see again.
    """

    rate: int | None
    metadata: dict[str, str] | None = None
    id: str = field(default_factory=lambda: new_id("resp"))
    item: Item = field(default_factory=lambda: Item(new_id("item"), "assistant", [], complete=False))
    status: Status = "in_progress"
    level_db: float = -120.0
    """Of its loudest piece so far."""
    new_tokens: int = 0
    known_tokens: int = 0
    conversation: ReadConversation | None = None
    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when some of it is there, so that other work no longer keeps the user waiting."""

    def __post_init__(self) -> None:
        self._encoder = None if self.rate is None else SpeechEncoder("pcm", self.rate)
        self.item.spoken = self.rate is not None

    def begin(self) -> Iterator[Event]:
        """The events before its first word."""
        yield {"type": "response.created", "response": self.as_json()}
        yield {"type": "response.output_item.added", "response_id": self.id, "output_index": 0, "item": self.item.as_json()}
        yield {"type": "conversation.item.added", "previous_item_id": None, "item": self.item.as_json()}
        yield {"type": "response.content_part.added", **self._place, "part": self._part("")}

    def take(self, event: CompletionEvent) -> Iterator[Event]:
        """The events of more of it."""
        if isinstance(event, Begun):
            self.conversation = event.conversation
        elif isinstance(event, TextDelta):
            self._write(event.text)
            if self._encoder is None:
                self.under_way.set()
            kind = "response.output_text.delta" if self._encoder is None else "response.output_audio_transcript.delta"
            yield {"type": kind, **self._place, "delta": event.text}
        elif isinstance(event, AudioDelta):
            assert self._encoder is not None
            assert self.rate is not None
            self.item.spoken, self.item.sentences = True, list(event.sentences)
            self.item.seconds += len(event.samples) / self.rate
            if self.item.seconds >= HEAD_START_SECONDS:
                self.under_way.set()
            self.level_db = max(self.level_db, level_db(event.samples))
            yield from self._audio(self._encoder.push(event.samples))
        elif isinstance(event, Unsaid):
            self.item.spoken = self.item.seconds > 0
            fix = "read it; a Talker with `data.symbols=phonemes` can say any letter"
            yield {"type": "error", **error_body(RequestError(f"the rest of the reply is not said: {event.reason}", fix=fix))}
        else:
            self.item.said_whole = True
            self.status = "completed" if event.reason == "stop" else "incomplete"
            self.new_tokens, self.known_tokens = event.new_tokens, event.known_tokens
            if self._encoder is not None:
                yield from self._audio(self._encoder.finish())

    def end(self, *, reason: str | None = None) -> Iterator[Event]:
        """The events after its last word, or after it was broken off for a reason."""
        self.under_way.set()
        self.item.complete = self.status == "completed"
        if self.status == "cancelled" and self.item.spoken and not self.item.seconds:
            self.item.truncate(0)  # written, and nothing of it was heard
        if self._encoder is None:
            yield {"type": "response.output_text.done", **self._place, "text": self.item.text}
        else:
            yield {"type": "response.output_audio.done", **self._place}
            yield {"type": "response.output_audio_transcript.done", **self._place, "transcript": self.item.text}
        item = self.item.as_json()
        yield {"type": "response.content_part.done", **self._place, "part": self._part(self.item.text)}
        yield {"type": "response.output_item.done", "response_id": self.id, "output_index": 0, "item": item}
        yield {"type": "conversation.item.done", "previous_item_id": None, "item": item}
        yield {"type": "response.done", "response": self.as_json(reason)}

    def _write(self, text: str) -> None:
        self.item.parts = [TextPart(type="text", text=self.item.text + text)]

    def _audio(self, data: bytes) -> Iterator[Event]:
        if data:
            yield {"type": "response.output_audio.delta", **self._place, "delta": base64.b64encode(data).decode()}

    @property
    def _place(self) -> Event:
        return {"response_id": self.id, "item_id": self.item.id, "output_index": 0, "content_index": 0}

    def _part(self, text: str) -> Event:
        return {"type": "text", "text": text} if self._encoder is None else {"type": "audio", "transcript": text}

    def as_json(self, reason: str | None = None) -> Event:
        """The reply as events have it."""
        details: Event | None = None
        if self.status == "incomplete":
            details = {"type": "incomplete", "reason": "max_output_tokens"}
        elif reason is not None:
            details = {"type": self.status, "reason": reason}
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self.status,
            "status_details": details,
            "output": [self.item.as_json()] if self.status != "in_progress" else [],
            "output_modalities": ["text" if self._encoder is None else "audio"],
            "metadata": self.metadata,
            "usage": self._usage() if self.status != "in_progress" else None,
        }

    def _usage(self) -> Event:
        if self.conversation is None:
            return {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        read, media = self.conversation, self.conversation.media_tokens
        return {
            "input_tokens": read.total_tokens,
            "output_tokens": self.new_tokens,
            "total_tokens": read.total_tokens + self.new_tokens,
            "input_token_details": {
                "text_tokens": read.text_tokens,
                "image_tokens": media.get("image", 0),
                "audio_tokens": media.get("audio", 0),
                "cached_tokens": self.known_tokens,
            },
            "output_token_details": {"text_tokens": self.new_tokens, "audio_tokens": 0},
        }


def seconds_of(event: Event) -> float:
    """How long the audio of an event plays; 0 of others."""
    delta = event["delta"] if event["type"] == "response.output_audio.delta" else ""
    assert isinstance(delta, str)
    return len(np.frombuffer(base64.b64decode(delta), "<i2")) / PCM_HZ
