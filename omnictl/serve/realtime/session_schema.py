"""Settings and events that a client of a voice conversation sends, as OpenAI has them."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from omnictl.config.base import Config
from omnictl.serve.endpoints.chat_schema import Text


class PcmFormat(Config):
    """The only format of audio: 16 bits, 24 kHz, mono."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24_000] = 24_000


class TurnDetection(Config):
    """When a turn of the user has ended."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(300, ge=0, le=2_000)
    silence_duration_ms: int = Field(500, ge=100, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: None = None

    @property
    def margin_db(self) -> float:
        """By how much speech must stand out."""
        return 6 + 12 * self.threshold


class Transcription(Config):
    """Whether what the user says is written down."""

    model: str | None = None
    language: Literal["en"] | None = None
    prompt: Literal[""] | None = None


class InputSettings(Config):
    """What is heard."""

    format: PcmFormat = PcmFormat()
    transcription: Transcription | None = Transcription()
    turn_detection: TurnDetection | None = TurnDetection()
    noise_reduction: None = None


class OutputSettings(Config):
    """What is said."""

    format: PcmFormat = PcmFormat()
    voice: str | None = None
    speed: float = Field(1.0, ge=0.25, le=4)
    pitch: float = Field(0.0, ge=-12, le=12)


class AudioSettings(Config):
    """Both."""

    input: InputSettings = InputSettings()
    output: OutputSettings = OutputSettings()


class SessionSettings(Config):
    """A voice conversation's."""

    type: Literal["realtime"] = "realtime"
    model: str | None = None
    instructions: Text | None = None
    output_modalities: list[Literal["text", "audio"]] = Field(["audio"], min_length=1, max_length=1)
    audio: AudioSettings = AudioSettings()
    max_output_tokens: Literal["inf"] | Annotated[int, Field(ge=1, le=4_096)] = "inf"
    temperature: float | None = Field(None, ge=0, le=2)
    truncation: Literal["auto", "disabled"] = "auto"
    tools: list[None] = Field([], max_length=0)
    tool_choice: Literal["auto", "none"] = "auto"
    tracing: None = None
    include: None = None
    prompt: None = None


class ItemPart(Config):
    """Part of an item."""

    type: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio", "text"]
    text: Text | None = None
    audio: str | None = None
    image_url: str | None = None
    transcript: Text | None = None
    detail: Literal["auto", "low", "high"] | None = None


class NewItem(Config):
    """What somebody said, added by the client."""

    type: Literal["message"]
    role: Literal["system", "user", "assistant"]
    content: list[ItemPart] = Field(min_length=1, max_length=64)
    id: str | None = Field(None, min_length=1, max_length=64)
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class ResponseSettings(Config):
    """Settings of one reply, where they differ from the session's."""

    instructions: Text | None = None
    output_modalities: list[Literal["text", "audio"]] | None = Field(None, min_length=1, max_length=1)
    max_output_tokens: Literal["inf"] | Annotated[int, Field(ge=1, le=4_096)] | None = None
    conversation: Literal["auto"] | None = None
    metadata: dict[str, str] | None = None


class _ClientEvent(Config):
    """What all events have."""

    event_id: str | None = Field(None, max_length=512)


class SessionUpdate(_ClientEvent):
    """New settings; what is not given stays."""

    type: Literal["session.update"]
    session: dict[str, object]


class AppendAudio(_ClientEvent):
    """More of what the microphone hears."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class CommitAudio(_ClientEvent):
    """The user's turn has ended."""

    type: Literal["input_audio_buffer.commit"]


class ClearAudio(_ClientEvent):
    """Forget what was heard since the last turn."""

    type: Literal["input_audio_buffer.clear"]


class CreateItem(_ClientEvent):
    """Add what somebody said."""

    type: Literal["conversation.item.create"]
    item: NewItem
    previous_item_id: str | None = None


class TruncateItem(_ClientEvent):
    """Of a reply, only its beginning was heard."""

    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: Literal[0] = 0
    audio_end_ms: int = Field(ge=0)


class DeleteItem(_ClientEvent):
    """Forget an item."""

    type: Literal["conversation.item.delete"]
    item_id: str


class CreateResponse(_ClientEvent):
    """Answer."""

    type: Literal["response.create"]
    response: ResponseSettings | None = None


class CancelResponse(_ClientEvent):
    """Answer no further."""

    type: Literal["response.cancel"]
    response_id: str | None = None


ClientEvent = (
    SessionUpdate
    | AppendAudio
    | CommitAudio
    | ClearAudio
    | CreateItem
    | TruncateItem
    | DeleteItem
    | CreateResponse
    | CancelResponse
)

CLIENT_EVENTS: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type")])


def updated_settings(settings: SessionSettings, changes: dict[str, object]) -> SessionSettings:
    """Settings with some of them replaced, however deep.

    Raises:
        ValidationError: they are not valid.
    """
    return SessionSettings.model_validate(_merge(settings.model_dump(), changes))


def _merge(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        merged[key] = _merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
