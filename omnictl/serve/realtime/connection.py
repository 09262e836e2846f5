"""`/v1/realtime`: a conversation by voice that can be interrupted.

What the microphone hears comes in small pieces; when the user's turn ends, the reply is written and said at once. If the user
begins to speak meanwhile, the reply stops, and the client says how much of it was heard, which is all that is remembered.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from omnictl.data.audio.resample import resample
from omnictl.data.speech.corpus import Samples
from omnictl.errors import OmniError
from omnictl.generate.sampling import SamplingConfig
from omnictl.serve.endpoints.chat_schema import ChatMessage
from omnictl.serve.realtime import session_schema as schema
from omnictl.serve.realtime.dialogue import Dialogue, Item, audio_item, even_bytes, item_of, new_id
from omnictl.serve.realtime.listener import Heard, Listener
from omnictl.serve.realtime.partial_transcript import PartialTranscript
from omnictl.serve.realtime.reply import Event, RealtimeReply, seconds_of
from omnictl.serve.realtime.silero import SileroVad
from omnictl.serve.replies.audio_formats import PCM_HZ, samples_of_pcm
from omnictl.serve.replies.completion import AudioDelta, CompletionEvent, ReplyPlan, Speaker, TextDelta, complete
from omnictl.serve.replies.conversation import read_conversation, read_latest_turns
from omnictl.serve.replies.media import bytes_of_base64
from omnictl.serve.service import Service
from omnictl.serve.traffic.errors import RequestError, error_body, invalid, report_error
from omnictl.serve.traffic.scheduler import Job
from omnictl.use.say import SpeechSettings
from omnictl.use.transcribe import HeardWindow, is_silent, transcribe_windows

if TYPE_CHECKING:
    from prometheus_client import Histogram

    from omnictl.use.subtitles import Word

MOST_ERRORS = 100
"""Events in a row that cannot be taken, before the server hangs up."""


async def _realtime(socket: WebSocket) -> None:
    service = socket.app.state.service
    assert isinstance(service, Service)
    offered = socket.scope.get("subprotocols", [])
    if len(service.conversations) >= service.limits.conversations:
        await socket.close(1013, "too many conversations; try again later")
        return
    await socket.accept("realtime" if "realtime" in offered else None)
    conversation = RealtimeConversation(socket, service)
    service.conversations.add(conversation.id)
    try:
        await conversation.run()
    finally:
        service.conversations.discard(conversation.id)


ROUTES = (WebSocketRoute("/v1/realtime", _realtime),)


class RealtimeConversation:
    """One conversation over one socket."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self.id = new_id("sess")
        self._socket, self._service = socket, service
        self._settings = schema.SessionSettings(output_modalities=["audio" if service.model.voice else "text"])
        self._dialogue = Dialogue()
        detector = SileroVad(PCM_HZ) if service.vad == "silero" else None
        self._listener = Listener(self._settings.audio.input.turn_detection, service.limits.audio_seconds, detector)
        self._reply: tuple[RealtimeReply, asyncio.Task[None]] | None = None
        self._transcriptions: set[asyncio.Task[None]] = set()
        self._partial: PartialTranscript | None = None
        self._playing_until = 0.0  # of `time.monotonic`, if the client plays what it gets
        self._newest: RealtimeReply | None = None
        self._turn_id = new_id("item")
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Talk until the client leaves."""
        try:
            self._check_model(self._socket.query_params.get("model"))
            await self._send({"type": "session.created", "session": self._session()})
            await self._take_events()
        except RequestError as error:
            await self._send({"type": "error", **error_body(error)})
            await self._socket.close(1008)
        except WebSocketDisconnect:
            pass
        finally:
            await self._end_partial()
            await self._cancel_reply("client_cancelled")
            for task in list(self._transcriptions):
                task.cancel()

    def _check_model(self, name: str | None) -> None:
        if name is not None:
            self._service.model.check_name(name)

    async def _take_events(self) -> None:
        errors = 0
        while errors < MOST_ERRORS:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            event_id = None
            try:
                event = _parse(message.get("text"))
                event_id = event.event_id
                await self._take(event)
                errors = 0
            except OmniError as error:
                errors += 1
                body = error_body(error)["error"]
                assert isinstance(body, dict)
                await self._send({"type": "error", "error": {**body, "event_id": event_id}})
        await self._socket.close(1008, f"{MOST_ERRORS} events in a row could not be taken")

    async def _take(self, event: schema.ClientEvent) -> None:
        match event:
            case schema.AppendAudio(audio=audio):
                await self._hear(samples_of_pcm(even_bytes(bytes_of_base64(audio, "audio"), "audio")))
            case schema.CommitAudio():
                await self._end_partial()
                await self._commit(self._listener.commit())
            case schema.ClearAudio():
                await self._end_partial()
                self._listener.clear()
                await self._send({"type": "input_audio_buffer.cleared"})
            case schema.SessionUpdate(session=changes):
                await self._update(changes)
            case schema.CreateItem(item=item, previous_item_id=previous):
                await self._add(item_of(item), previous)
            case schema.TruncateItem(item_id=item_id, audio_end_ms=end):
                await self._truncate(item_id, end)
            case schema.DeleteItem(item_id=item_id):
                await self._delete(item_id)
            case schema.CreateResponse(response=settings):
                await self._respond(settings or schema.ResponseSettings())
            case schema.CancelResponse(response_id=response_id):
                if self._reply is None or response_id not in (None, self._reply[0].id):
                    named = "" if response_id is None else f" {response_id[:64]!r}"
                    fix = "cancel while a reply is under way"
                    raise RequestError(f"there is no reply{named} to cancel", fix=fix, code="response_cancel_not_active")
                await self._cancel_reply("client_cancelled")

    # What the user says

    async def _hear(self, samples: Samples) -> None:
        self._listener.check_room(len(samples))
        for start in range(0, len(samples), PCM_HZ):  # a second at a time: others want to be heard, too
            playing = self._newest if time.monotonic() < self._playing_until else None
            self._listener.activity.reply_db = None if playing is None else playing.level_db
            for change in self._listener.push(samples[start : start + PCM_HZ]):
                await self._heard(change)
            if self._partial is not None:
                self._partial.push(self._listener.fresh())
            await asyncio.sleep(0)

    async def _heard(self, change: Heard) -> None:
        detection = self._settings.audio.input.turn_detection
        assert detection is not None
        if change.kind == "started":
            self._turn_id = new_id("item")
            started = {"type": "input_audio_buffer.speech_started", "audio_start_ms": change.at_ms, "item_id": self._turn_id}
            await self._send(started)
            self._begin_partial(self._turn_id)
            if detection.interrupt_response:
                self._playing_until = 0.0
                await self._cancel_reply("turn_detected")
            return
        assert change.turn is not None
        await self._end_partial()
        item = audio_item(change.turn, self._turn_id)
        await self._send({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": change.at_ms, "item_id": item.id})
        if await asyncio.to_thread(self._is_noise, change.turn):
            await self._send({"type": "input_audio_buffer.cleared"})
            return
        await self._commit(change.turn, item)
        if detection.create_response and self._reply is None:
            await self._respond(schema.ResponseSettings())

    def _begin_partial(self, item_id: str) -> None:
        """Write down what is being said, if there is a recogniser that can hear it meanwhile."""
        recogniser = self._service.model.recogniser
        if recogniser is None or not recogniser.streams or self._settings.audio.input.transcription is None:
            return

        async def tell(text: str) -> None:
            kind = "conversation.item.input_audio_transcription.delta"
            await self._send({"type": kind, "item_id": item_id, "content_index": 0, "delta": text})

        self._partial = PartialTranscript(recogniser, self._service.scheduler, tell, self._send_error)

    async def _end_partial(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            await partial.close()

    def _is_noise(self, turn: Samples) -> bool:
        recogniser = self._service.model.recogniser
        if recogniser is None:
            return False
        mel = recogniser.config.model.mel
        return is_silent(resample(turn, PCM_HZ, mel.sample_rate), mel)

    async def _commit(self, turn: Samples, item: Item | None = None) -> None:
        item = item or audio_item(turn, new_id("item"))
        previous = self._dialogue.last_id
        await self._send({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": item.id})
        await self._add(item)
        if self._settings.audio.input.transcription is not None and self._service.model.recogniser is not None:
            task = asyncio.create_task(self._transcribe(item, turn))
            self._transcriptions.add(task)
            task.add_done_callback(self._transcriptions.discard)

    async def _transcribe(self, item: Item, turn: Samples) -> None:
        """Write down what was said, once the reply to it is under way."""
        if self._reply is not None:
            await self._reply[0].under_way.wait()
        kind, place = "conversation.item.input_audio_transcription", {"item_id": item.id, "content_index": 0}
        words: list[Word] = []
        try:
            job = self._service.scheduler.submit(self._words(turn))
            try:
                async for window in job:
                    words += window.words
                    self._service.metrics.heard.inc(window.stop - window.start)
            finally:
                job.cancel()
        except Exception as error:  # noqa: BLE001  whatever it was, the client waits for an end
            await self._send({"type": f"{kind}.failed", **place, **report_error(error)})
            return
        item.transcript = " ".join(word.text for word in words)
        usage = {"type": "duration", "seconds": len(turn) / PCM_HZ}
        await self._send({"type": f"{kind}.completed", **place, "transcript": item.transcript, "usage": usage})

    def _words(self, turn: Samples) -> Iterator[HeardWindow]:
        recogniser = self._service.model.require_recogniser()
        audio = resample(turn, PCM_HZ, recogniser.config.model.mel.sample_rate)
        yield from transcribe_windows(audio, recogniser, recogniser.decoding)

    # What was said

    async def _add(self, item: Item, after: str | None = None) -> None:
        await self._make_room()
        previous = self._dialogue.add(item, after)
        for kind in ("conversation.item.added", "conversation.item.done"):
            await self._send({"type": kind, "previous_item_id": previous, "item": item.as_json()})

    async def _make_room(self) -> None:
        """Forget the oldest item if the conversation is full and that is allowed."""
        oldest = self._dialogue.oldest_id
        if self._settings.truncation == "auto" and self._dialogue.is_full and oldest is not None:
            await self._delete(oldest)

    async def _delete(self, item_id: str) -> None:
        self._dialogue.delete(item_id)
        await self._send({"type": "conversation.item.deleted", "item_id": item_id})

    async def _truncate(self, item_id: str, end_ms: int) -> None:
        item = self._dialogue.find(item_id)
        if not item.spoken:
            raise RequestError("only spoken replies are truncated", fix="name one", where="item_id")
        if self._reply is not None and self._reply[0].item is item:
            await self._cancel_reply("client_cancelled")
        if self._newest is not None and self._newest.item is item:
            self._playing_until = 0.0
        item.truncate(end_ms / 1_000)
        event = {"type": "conversation.item.truncated", "item_id": item_id, "content_index": 0, "audio_end_ms": end_ms}
        await self._send(event)

    async def _update(self, changes: dict[str, object]) -> None:
        try:
            settings = schema.updated_settings(self._settings, changes)
        except ValidationError as error:
            raise invalid(error) from error
        self._check_model(settings.model)
        if settings.output_modalities == ["audio"]:
            self._service.model.speaker(settings.audio.output.voice)
        self._settings = settings
        self._listener.configure(settings.audio.input.turn_detection)
        await self._send({"type": "session.updated", "session": self._session()})

    def _session(self) -> Event:
        settings = self._settings.model_dump()
        return {**settings, "id": self.id, "object": "realtime.session", "model": settings["model"] or self._service.model.names[0]}

    # What the model says

    async def _respond(self, asked: schema.ResponseSettings) -> None:
        if self._reply is not None:
            fix = "wait for response.done, or cancel it"
            raise RequestError("a reply is under way", fix=fix, code="conversation_already_has_active_response")
        messages = self._dialogue.messages(asked.instructions or self._settings.instructions)
        if not messages:
            raise RequestError("there is nothing to answer yet", fix="say something, or send conversation.item.create")
        speaks = (asked.output_modalities or self._settings.output_modalities) == ["audio"]
        reply = RealtimeReply(self._service.model.require_voice().vocoder.sample_rate if speaks else None, asked.metadata)
        reply.item.speed = self._settings.audio.output.speed
        await self._make_room()
        self._dialogue.add(reply.item)
        try:
            job: Job[CompletionEvent] = self._service.scheduler.submit(self._work(messages, asked, speaks=speaks))
        except RequestError:
            self._dialogue.delete(reply.item.id)
            raise
        self._reply = (reply, asyncio.create_task(self._tell(reply, job)))
        await asyncio.sleep(0)  # a task that is cancelled before its first step would neither tell of it nor end its job

    def _work(
        self, messages: Sequence[ChatMessage], asked: schema.ResponseSettings, *, speaks: bool
    ) -> Iterator[CompletionEvent | None]:
        service, output = self._service, self._settings.audio.output
        session = service.model.new_session(None)
        read = read_latest_turns if self._settings.truncation == "auto" else read_conversation
        conversation = read(messages, session, service.limits, service.spoken)
        most = asked.max_output_tokens or self._settings.max_output_tokens
        given = self._settings.temperature
        sampling = SamplingConfig(temperature=service.model.temperature if given is None else given, top_p=1.0)
        plan = ReplyPlan(sampling, None if most == "inf" else most)
        speaker = None
        if speaks:
            settings = SpeechSettings(service.model.speaker(output.voice), output.speed, output.pitch)
            speaker = Speaker(service.model.require_voice(), settings)
        yield from complete(session, conversation, plan, speaker, service.pool)

    async def _tell(self, reply: RealtimeReply, job: Job[CompletionEvent]) -> None:
        """Send a reply as it comes; what breaks it off is told, too."""
        reason: str | None = None
        broken: Exception | None = None
        began = time.perf_counter()
        metrics = self._service.metrics
        firsts: dict[type[object], Histogram] = {TextDelta: metrics.first_token, AudioDelta: metrics.first_audio}
        self._newest = reply
        try:
            await self._send_all(reply.begin())
            async for event in job:
                for telling in reply.take(event):
                    self._play(seconds_of(telling))
                    await self._send(telling)
                if (first := firsts.pop(type(event), None)) is not None:
                    first.observe(time.perf_counter() - began)
            assert reply.conversation is not None
            metrics.count_reply(reply.conversation, reply.new_tokens)
        except asyncio.CancelledError as error:
            reply.status, reason = "cancelled", str(error) or "client_cancelled"
        except Exception as error:  # noqa: BLE001  whatever it was, the client waits for an end
            reply.status, reason, broken = "failed", "error", error
        finally:
            job.cancel()
            if self._reply is not None and self._reply[0] is reply:
                self._reply = None
        if broken is not None:
            await self._send_error(broken)
        await self._send_all(reply.end(reason=reason))

    def _play(self, seconds: float) -> None:
        if seconds:
            self._playing_until = max(self._playing_until, time.monotonic()) + seconds
            self._service.metrics.speech.inc(seconds)

    async def _cancel_reply(self, reason: str) -> None:
        if self._reply is None:
            return
        _, task = self._reply
        self._reply = None
        task.cancel(reason)
        with suppress(asyncio.CancelledError):
            await task

    async def _send_all(self, events: Iterator[Event]) -> None:
        for event in events:
            await self._send(event)

    async def _send_error(self, error: Exception) -> None:
        await self._send({"type": "error", **report_error(error)})

    async def _send(self, event: Event) -> None:
        """Send an event, unless the client has left."""
        async with self._sending:
            if self._socket.application_state is WebSocketState.CONNECTED:
                with suppress(WebSocketDisconnect, RuntimeError):
                    await self._socket.send_json({**event, "event_id": new_id("event")})


def _parse(text: str | None) -> schema.ClientEvent:
    """An event that a client sent.

    Raises:
        RequestError: it is none.
    """
    if text is None:
        raise RequestError("a binary message came", fix="send events as JSON text", code="invalid_event")
    try:
        return schema.CLIENT_EVENTS.validate_json(text)
    except ValidationError as error:
        raise invalid(error) from error
