"""`POST /v1/audio/transcriptions`: what is said in a recording, as JSON, text or subtitles, whole or as it is heard."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from omnictl.config.base import Config
from omnictl.data.audio.decoder import read_audio
from omnictl.serve.replies.media import write_media
from omnictl.serve.service import Service, service_of
from omnictl.serve.traffic.errors import RequestError, invalid
from omnictl.serve.traffic.responses import JobResponse, collect, server_sent_event
from omnictl.use.subtitles import Word, cues, to_srt, to_vtt
from omnictl.use.transcribe import HeardWindow, Transcript, transcribe_windows

NOT_MEASURED: dict[str, object] = {
    "seek": 0,
    "tokens": [],
    "temperature": 0.0,
    "avg_logprob": 0.0,
    "compression_ratio": 1.0,
    "no_speech_prob": 0.0,
}
"""What OpenAI's clients expect of a segment, and this recogniser has no figures for."""


def _as_bool(value: object) -> object:
    return {"true": True, "false": False, "1": True, "0": False}.get(value.lower(), value) if isinstance(value, str) else value


class TranscriptionRequest(Config):
    """The fields beside the file."""

    model: str
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = Field(["segment"])
    language: Literal["en", "english", "en-us", "en-gb"] | None = None
    stream: Annotated[bool, BeforeValidator(_as_bool)] = False
    temperature: float = Field(0.0, ge=0, le=0)
    prompt: Literal[""] | None = None


async def _transcribe(request: Request) -> ASGIApp:
    service = service_of(request)
    asked, data = await _read_form(request)
    service.model.check_name(asked.model)
    service.model.require_recogniser()
    if asked.stream and asked.response_format not in ("json", "text"):
        raise RequestError("subtitles are not streamed", fix="send response_format=json", where="response_format")
    job = service.scheduler.submit(_work(data, service))
    output = _TranscriptOutput(service)
    if asked.stream:
        return JobResponse(job, output.events, media_type="text/event-stream; charset=utf-8", last=output.last_event)
    for window in await collect(request, job):
        output.take(window)
    return output.whole(asked)


ROUTES = (Route("/v1/audio/transcriptions", _transcribe, methods=["POST"]),)


async def _read_form(request: Request) -> tuple[TranscriptionRequest, bytes]:
    """The fields of a form, and its file.

    Raises:
        RequestError: it is not such a form.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError("the body is not a form with a file", fix="send Content-Type: multipart/form-data", status=415)
    try:
        async with request.form(max_files=1, max_fields=32, max_part_size=2**16) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise RequestError("the form has no file", fix="send the recording as `file`", where="file")
            return _fields(form), await file.read()
    except MultiPartException as error:
        raise RequestError(f"the form is broken: {error.message}", fix="send it anew", where="body") from error


def _fields(form: FormData) -> TranscriptionRequest:
    given: dict[str, list[object]] = {}
    for key, value in form.multi_items():
        if key != "file":
            given.setdefault(key.removesuffix("[]"), []).append(value)
    lists = {key for key in given if key == "timestamp_granularities" or len(given[key]) > 1}
    try:
        return TranscriptionRequest.model_validate({key: several if key in lists else several[0] for key, several in given.items()})
    except ValidationError as error:
        raise invalid(error) from error


def _work(data: bytes, service: Service) -> Iterator[HeardWindow]:
    recogniser = service.model.require_recogniser()
    with tempfile.TemporaryDirectory(prefix="omnictl-serve-") as folder:
        path = Path(folder) / "recording"
        write_media("audio", data, path, service.limits, "file")
        audio = read_audio(path, rate=recogniser.config.model.mel.sample_rate, max_seconds=service.limits.audio_seconds)
    yield from transcribe_windows(audio, recogniser, recogniser.decoding)


class _TranscriptOutput:
    """What was heard as what the client asked for."""

    def __init__(self, service: Service) -> None:
        self._metrics = service.metrics
        self._words: list[Word] = []
        self._seconds = 0.0

    def take(self, window: HeardWindow) -> None:
        """Take in what was heard next."""
        self._words += window.words
        self._metrics.heard.inc(window.stop - self._seconds)
        self._seconds = window.stop

    def whole(self, asked: TranscriptionRequest) -> ASGIApp:
        """The response."""
        text = Transcript(self._words, self._seconds, 0.0).text
        if asked.response_format == "text":
            return PlainTextResponse(text + "\n")
        if asked.response_format == "srt":
            return PlainTextResponse(to_srt(self._words))
        if asked.response_format == "vtt":
            return PlainTextResponse(to_vtt(self._words), media_type="text/vtt")
        if asked.response_format == "json":
            return JSONResponse({"text": text, "usage": self._usage()})
        verbose: dict[str, object] = {
            "task": "transcribe",
            "language": "english",
            "duration": round(self._seconds, 3),
            "text": text,
            "usage": self._usage(),
        }
        if "word" in asked.timestamp_granularities:
            verbose["words"] = [
                {"word": word.text, "start": round(word.start, 3), "end": round(word.stop, 3)} for word in self._words
            ]
        if "segment" in asked.timestamp_granularities:
            verbose["segments"] = self._segments()
        return JSONResponse(verbose)

    def _segments(self) -> list[dict[str, object]]:
        return [
            {"id": number, "start": round(cue.start, 3), "end": round(cue.stop, 3), "text": " ".join(cue.lines), **NOT_MEASURED}
            for number, cue in enumerate(cues(self._words))
        ]

    def _usage(self) -> dict[str, object]:
        return {"type": "duration", "seconds": round(self._seconds)}

    def events(self, window: HeardWindow) -> Iterator[bytes]:
        """What was heard next, as a server-sent event."""
        before = bool(self._words)
        self.take(window)
        if window.words:
            text = " ".join(word.text for word in window.words)
            yield server_sent_event({"type": "transcript.text.delta", "delta": (" " if before else "") + text})
        else:
            yield b": silence\n\n"

    def last_event(self) -> bytes:
        """The whole transcript, as a server-sent event."""
        text = Transcript(self._words, self._seconds, 0.0).text
        return server_sent_event({"type": "transcript.text.done", "text": text, "usage": self._usage()})
