"""A chat completion as it is asked for: OpenAI's fields, and two of the samplers' that it has not.

What this server cannot do may be named in its neutral value only, so that nothing that was asked for is left out without a word.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from omnictl.config.base import Config
from omnictl.generate.sampling import SamplingConfig
from omnictl.serve.replies.audio_formats import AudioFormat

MOST_STOPS = 4
MOST_MESSAGES = 512
MOST_LOGPROBS = 20

Text = Annotated[str, StringConstraints(max_length=1_000_000)]


class TextPart(Config):
    """Words of a message."""

    type: Literal["text"]
    text: Text


class ImageUrl(Config):
    """Where an image is: in the URL itself."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Config):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Config):
    """A recording."""

    data: str
    format: Literal["wav", "mp3", "flac", "ogg", "opus"] = "wav"


class AudioPart(Config):
    """A recording of a message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


ContentPart = Annotated[TextPart | ImagePart | AudioPart, Field(discriminator="type")]


class SpokenBefore(Config):
    """An earlier reply of the assistant that was spoken."""

    id: str
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class ChatMessage(Config):
    """What one side says."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart] | None = None
    name: str | None = None
    audio: SpokenBefore | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: list[None] | None = Field(None, max_length=0)


class AudioOutput(Config):
    """How a reply is spoken."""

    voice: str | None = None
    format: AudioFormat = "wav"
    speed: float = Field(1.0, ge=0.25, le=4)
    pitch: float = Field(0.0, ge=-12, le=12, description="semitones")


class StreamOptions(Config):
    """What a stream brings besides the reply."""

    include_usage: bool = False
    include_obfuscation: bool = False


class TextFormat(Config):
    """The only kind of reply."""

    type: Literal["text"]


class ChatRequest(Config):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioOutput | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=10)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=1_000_000_000)
    repetition_penalty: float = Field(1.0, ge=1, le=10)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | list[Text] | None = None
    n: int | None = Field(1, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    presence_penalty: Literal[0] | float | None = Field(None, ge=0, le=0)
    frequency_penalty: Literal[0] | float | None = Field(None, ge=0, le=0)
    response_format: TextFormat | None = None
    service_tier: Literal["auto", "default"] | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > MOST_STOPS or "" in stops:
            raise ValueError(f"at most {MOST_STOPS} texts that are not empty were expected")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a reply."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def most_tokens(self) -> int | None:
        """Length of the longest reply; None: what fits."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def speaks(self) -> bool:
        """Whether the reply is spoken, too."""
        return "audio" in (self.modalities or ())

    def sampling(self, temperature: float) -> SamplingConfig:
        """How tokens are chosen; with this temperature where none is asked for."""
        return SamplingConfig(
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
        )
