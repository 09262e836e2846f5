"""What a server takes on at most; everything beyond is refused with a status that says so."""

from pydantic import Field

from omnictl.config.base import Config


class ServeLimits(Config):
    """Bounds of requests."""

    active: int = Field(8, ge=1, description="requests that are computed in turns")
    waiting: int = Field(32, ge=0, description="requests that wait for their turn; one more is refused with 429")
    request_seconds: float = Field(300.0, gt=0, description="from when a request is taken on until it must have ended")
    body_bytes: int = Field(25 * 2**20, ge=1)
    body_seconds: float = Field(60.0, gt=0, description="until all of a body must have arrived")
    image_pixels: int = Field(20_000_000, ge=1)
    audio_seconds: float = Field(600.0, gt=0, description="of a recording to transcribe, or to talk about")
    images: int = Field(16, ge=0, description="images and recordings of a conversation")
    speech_characters: int = Field(4_096, ge=1, description="of a text to say, as OpenAI has it")
    choices: int = Field(8, ge=1, description="`n` of a chat completion")
    conversations: int = Field(16, ge=0, description="by voice, at once")
    connections: int = Field(256, ge=1, description="open at once, waiting ones included")
