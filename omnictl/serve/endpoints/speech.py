"""`POST /v1/audio/speech`: a text, spoken, sent while it is being made."""

import base64
from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from omnictl.config.base import Config
from omnictl.generate.tts import Samples
from omnictl.serve.replies.audio_formats import MEDIA_TYPES, AudioFormat, SpeechEncoder
from omnictl.serve.service import Service, Stopwatch, read_json, service_of
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.responses import JobResponse, server_sent_event
from omnictl.use.say import SpeechSettings, stream


class SpeechRequest(Config):
    """The body: OpenAI's fields, and pitch, temperature and seed."""

    model: str
    input: str
    voice: str | None = None
    response_format: AudioFormat = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4)
    pitch: float = Field(0.0, ge=-12, le=12, description="semitones")
    temperature: float | None = Field(None, ge=0, le=10)
    seed: int = Field(0, ge=0, lt=2**63)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: Literal[""] | None = None


async def _speech(request: Request) -> ASGIApp:
    service, watch = service_of(request), Stopwatch()
    asked = await read_json(request, SpeechRequest)
    service.model.check_name(asked.model)
    speaker = service.model.speaker(asked.voice)
    most = service.limits.speech_characters
    if len(asked.input) > most:
        message = f"the text has {len(asked.input):,} characters, {most:,} are the most"
        raise RequestError(message, fix="send it in parts", where="input")
    settings = SpeechSettings(speaker, asked.speed, asked.pitch, asked.temperature, asked.seed)
    output = _SpeechOutput(asked, service, watch)
    job = service.scheduler.submit(_work(asked.input, settings, service))
    if asked.stream_format == "sse":
        return JobResponse(job, output.events, media_type="text/event-stream; charset=utf-8", last=output.last_event)
    return JobResponse(job, output.audio, media_type=MEDIA_TYPES[asked.response_format], last=output.rest)


ROUTES = (Route("/v1/audio/speech", _speech, methods=["POST"]),)


def _work(text: str, settings: SpeechSettings, service: Service) -> Iterator[Samples]:
    spoken = 0
    for samples in stream([text], service.model.require_voice(), settings):
        spoken += len(samples)
        yield samples
    if not spoken:
        fix = "send a text with words"
        raise RequestError("nothing of the text can be said: it has no letters and no numbers", fix=fix, where="input")


class _SpeechOutput:
    """Samples as what the client asked for."""

    def __init__(self, asked: SpeechRequest, service: Service, watch: Stopwatch) -> None:
        self._rate = service.model.require_voice().vocoder.sample_rate
        self._encoder = SpeechEncoder(asked.response_format, self._rate)
        self._metrics, self._watch = service.metrics, watch
        self._characters, self._samples = len(asked.input), 0

    def audio(self, samples: Samples) -> Iterator[bytes]:
        """The bytes of some samples."""
        if not self._samples:
            self._metrics.first_audio.observe(self._watch.seconds)
        self._samples += len(samples)
        self._metrics.speech.inc(len(samples) / self._rate)
        yield self._encoder.push(samples)

    def rest(self) -> bytes:
        """The bytes at the end."""
        return self._encoder.finish()

    def events(self, samples: Samples) -> Iterator[bytes]:
        """The same as server-sent events."""
        for data in self.audio(samples):
            if data:
                yield _delta(data)

    def last_event(self) -> bytes:
        """The events at the end."""
        usage = {"input_tokens": self._characters, "output_tokens": 0, "total_tokens": self._characters}
        done = server_sent_event({"type": "speech.audio.done", "usage": usage})
        rest = self.rest()
        return (_delta(rest) if rest else b"") + done


def _delta(data: bytes) -> bytes:
    return server_sent_event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
