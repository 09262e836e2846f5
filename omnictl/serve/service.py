"""What all endpoints of a server share."""

import time
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from omnictl.config.base import Config
from omnictl.generate.slot_pool import SlotPool
from omnictl.serve.metrics import ServeMetrics
from omnictl.serve.model import ServedModel
from omnictl.serve.replies.reply_audio import SpokenReplies
from omnictl.serve.traffic.errors import RequestError, invalid
from omnictl.serve.traffic.limits import ServeLimits
from omnictl.serve.traffic.scheduler import Scheduler

C = TypeVar("C", bound=Config)

VadKind = Literal["level", "silero"]
"""What tells when somebody speaks: how loud it is, or Silero's network."""


@dataclass(frozen=True)
class Service:
    """A model that is served."""

    model: ServedModel
    limits: ServeLimits
    scheduler: Scheduler
    metrics: ServeMetrics
    pool: SlotPool
    """Where replies are written; for the scheduler's thread alone."""
    vad: VadKind
    spoken: SpokenReplies = field(default_factory=SpokenReplies)
    conversations: set[str] = field(default_factory=set)
    """Ids of those by voice that are under way."""


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def read_json(request: Request, kind: type[C]) -> C:
    """The body of a request.

    Raises:
        RequestError: it is not JSON, or not what is expected.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":  # other kinds a page of another site could send unasked
        found = f"the body is {content_type[:60]!r}" if content_type else "the body has no Content-Type"
        raise RequestError(f"{found}, JSON was expected", fix="send Content-Type: application/json", status=415)
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise invalid(error) from error


class Stopwatch:
    """Seconds since a request came."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.perf_counter() - self._began
