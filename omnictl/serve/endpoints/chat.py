"""`POST /v1/chat/completions`: replies in text and speech, whole or as they are written."""

import base64
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from omnictl.serve.endpoints.chat_schema import AudioOutput, ChatRequest
from omnictl.serve.replies.audio_formats import AudioFormat, SpeechEncoder
from omnictl.serve.replies.completion import (
    AudioDelta,
    Begun,
    ChoiceEnd,
    CompletionEvent,
    ReplyPlan,
    Speaker,
    TextDelta,
    TokenLogprob,
    Unsaid,
    complete,
)
from omnictl.serve.replies.conversation import read_conversation
from omnictl.serve.service import Service, Stopwatch, read_json, service_of
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.responses import DONE, JobResponse, collect, server_sent_event
from omnictl.use.say import SpeechSettings

if TYPE_CHECKING:
    from omnictl.serve.traffic.scheduler import Job


async def _chat(request: Request) -> ASGIApp:
    service, watch = service_of(request), Stopwatch()
    asked = await read_json(request, ChatRequest)
    _check(asked, service)
    completion = _Completion(asked, service, watch)
    job: Job[CompletionEvent] = service.scheduler.submit(_work(asked, service))
    if asked.stream:
        return JobResponse(job, completion.stream, media_type="text/event-stream; charset=utf-8", last=completion.end_of_stream)
    for event in await collect(request, job):
        completion.take(event)
    return JSONResponse(completion.whole())


ROUTES = (Route("/v1/chat/completions", _chat, methods=["POST"]),)


def _check(asked: ChatRequest, service: Service) -> None:
    service.model.check_name(asked.model)
    most = service.limits.choices
    if (asked.n or 1) > most:
        raise RequestError(f"{asked.n} replies were asked for, {most} are the most", fix=f"ask for at most {most}", where="n")
    if asked.top_logprobs is not None and not asked.logprobs:
        raise RequestError("`top_logprobs` needs `logprobs`", fix="send logprobs: true", where="top_logprobs")
    if asked.audio is not None and not asked.speaks:
        raise RequestError("`audio` without speech", fix='send modalities: ["text", "audio"]', where="audio")
    if asked.speaks:
        service.model.speaker(_output(asked).voice)
        if (asked.n or 1) > 1:
            raise RequestError("one reply at a time is spoken", fix="send n: 1", where="n")
        if asked.stream and _output(asked).format not in ("pcm16", "pcm"):
            raise RequestError("speech is streamed as pcm16", fix='send audio.format: "pcm16"', where="audio.format")


def _output(asked: ChatRequest) -> AudioOutput:
    return asked.audio or AudioOutput(format="pcm16" if asked.stream else "wav")


def _work(asked: ChatRequest, service: Service) -> Iterator[CompletionEvent | None]:
    model = service.model
    session = model.new_session(None if asked.seed is None else asked.seed % 2**63)
    conversation = read_conversation(asked.messages, session, service.limits, service.spoken)
    top = (asked.top_logprobs or 0) if asked.logprobs else None
    plan = ReplyPlan(asked.sampling(model.temperature), asked.most_tokens, asked.stops, asked.n or 1, top)
    speaker = None
    if asked.speaks:
        output = _output(asked)
        settings = SpeechSettings(model.speaker(output.voice), output.speed, output.pitch, seed=(asked.seed or 0) % 2**63)
        speaker = Speaker(model.require_voice(), settings)
    yield from complete(session, conversation, plan, speaker, service.pool)


@dataclass
class _ChoiceSoFar:
    """What has come of one reply."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: str | None = None
    tokens: int = 0
    known: int = 0


class _Completion:
    """Puts events together to what OpenAI's clients read.

    Args:
        asked: the request.
        service: counts, and keeps what was said.
        watch: runs since the request came.
    """

    def __init__(self, asked: ChatRequest, service: Service, watch: Stopwatch) -> None:
        self._asked, self._service, self._watch = asked, service, watch
        self._id, self._created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self._choices = [_ChoiceSoFar() for _ in range(asked.n or 1)]
        self._begun: Begun | None = None
        self._audio_id = service.spoken.new_id()
        self._encoder: SpeechEncoder | None = None
        if asked.speaks:
            self._format: AudioFormat = _output(asked).format
            self._encoder = SpeechEncoder(self._format, service.model.require_voice().vocoder.sample_rate)
        self._audio: list[bytes] = []
        self._audio_samples = 0
        self._unsaid: str | None = None
        """Why not all of the reply was said, if it was not."""

    def take(self, event: CompletionEvent) -> bytes:
        """Take in an event; returns what it adds to the audio file."""
        metrics = self._service.metrics
        if isinstance(event, Begun):
            self._begun = event
            return b""
        choice = self._choices[event.choice]
        if isinstance(event, TextDelta):
            if not any(other.text for other in self._choices):
                metrics.first_token.observe(self._watch.seconds)
            choice.text += event.text
            choice.logprobs += event.logprobs
            return b""
        if isinstance(event, AudioDelta):
            assert self._encoder is not None
            if not self._audio_samples:
                metrics.first_audio.observe(self._watch.seconds)
            self._audio_samples += len(event.samples)
            return self._keep(self._encoder.push(event.samples))
        if isinstance(event, Unsaid):
            self._unsaid = event.reason
            return b""
        choice.reason, choice.tokens, choice.known = event.reason, event.new_tokens, event.known_tokens
        if all(other.reason for other in self._choices):
            self._count()
        return self._keep(self._encoder.finish()) if self._encoder is not None else b""

    def _keep(self, data: bytes) -> bytes:
        if not self._asked.stream:
            self._audio.append(data)
        return data

    def _count(self) -> None:
        assert self._begun is not None
        metrics = self._service.metrics
        metrics.count_reply(self._begun.conversation, sum(choice.tokens for choice in self._choices))
        if self._asked.speaks:
            metrics.speech.inc(self._audio_samples / self._service.model.require_voice().vocoder.sample_rate)

    def whole(self) -> dict[str, object]:
        """The completion after its last event."""
        choices = [self._whole_choice(number, choice) for number, choice in enumerate(self._choices)]
        return {**self._head("chat.completion"), "choices": choices, "usage": self._usage()}

    def _whole_choice(self, number: int, choice: _ChoiceSoFar) -> dict[str, object]:
        message: dict[str, object] = {"role": "assistant", "content": choice.text, "refusal": None}
        if self._unsaid is not None:
            message["omnictl"] = {"not_said": self._unsaid}
        elif self._asked.speaks:
            expires = self._service.spoken.keep(self._audio_id, choice.text)
            data = base64.b64encode(b"".join(self._audio)).decode()
            message["content"] = None
            message["audio"] = {"id": self._audio_id, "data": data, "transcript": choice.text, "expires_at": expires}
        logprobs = self._logprobs(choice.logprobs)
        return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": choice.reason}

    def stream(self, event: CompletionEvent) -> Iterator[bytes]:
        """The server-sent events of an event."""
        data = self.take(event)
        if isinstance(event, Begun):
            for number in range(len(self._choices)):
                yield self._chunk(number, {"role": "assistant", "content": None if self._asked.speaks else "", "refusal": None})
        elif isinstance(event, TextDelta):
            delta: dict[str, object] = {"content": event.text}
            if self._asked.speaks and self._unsaid is None:
                delta = {"audio": {"id": self._audio_id, "transcript": event.text}}
            yield self._chunk(event.choice, delta, logprobs=self._logprobs(event.logprobs))
        elif isinstance(event, Unsaid):
            yield self._chunk(event.choice, {"omnictl": {"not_said": event.reason}})
        if data:
            yield self._chunk(0, {"audio": {"id": self._audio_id, "data": base64.b64encode(data).decode()}})
        if isinstance(event, ChoiceEnd):
            if self._asked.speaks:
                expires = self._service.spoken.keep(self._audio_id, event.text)
                yield self._chunk(0, {"audio": {"id": self._audio_id, "expires_at": expires}})
            yield self._chunk(event.choice, {}, reason=event.reason)

    def end_of_stream(self) -> bytes:
        """What comes after the last event."""
        options = self._asked.stream_options
        if options is None or not options.include_usage:
            return DONE
        return server_sent_event({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage()}) + DONE

    def _chunk(
        self, number: int, delta: dict[str, object], *, reason: str | None = None, logprobs: dict[str, object] | None = None
    ) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return server_sent_event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, object]:
        fingerprint = self._service.model.names[0]
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._asked.model,
            "system_fingerprint": fingerprint,
        }

    def _usage(self) -> dict[str, object]:
        assert self._begun is not None
        conversation, new = self._begun.conversation, sum(choice.tokens for choice in self._choices)
        media = conversation.media_tokens
        return {
            "prompt_tokens": conversation.total_tokens,
            "completion_tokens": new,
            "total_tokens": conversation.total_tokens + new,
            "prompt_tokens_details": {
                "cached_tokens": self._choices[0].known,
                "text_tokens": conversation.text_tokens,
                "image_tokens": media.get("image", 0),
                "audio_tokens": media.get("audio", 0),
            },
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "text_tokens": new},
        }

    def _logprobs(self, entries: "list[TokenLogprob] | tuple[TokenLogprob, ...]") -> dict[str, object] | None:
        if not self._asked.logprobs:
            return None
        content = [
            {**self._token(entry.token, entry.logprob), "top_logprobs": [self._token(token, value) for token, value in entry.top]}
            for entry in entries
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float) -> dict[str, object]:
        data = self._service.model.session.respondent.template.tokenizer.token_bytes[token]
        return {"token": data.decode("utf-8", errors="replace"), "logprob": logprob, "bytes": list(data)}
