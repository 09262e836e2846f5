"""What is counted of a request that got no response."""

import asyncio
from contextlib import AbstractContextManager, nullcontext

import pytest
from starlette.types import Message, Receive, Scope, Send

from omnictl.serve.metrics import ServeMetrics
from omnictl.serve.traffic.access import Guard
from omnictl.serve.traffic.limits import ServeLimits
from omnictl.serve.traffic.scheduler import Scheduler

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


@pytest.mark.parametrize(
    ("sent", "error", "status"),
    [([START], None, 200), ([START], ValueError("a mistake"), 200), ([], ValueError("a mistake"), 500), ([], None, 499)],
    ids=["answered", "broken off", "a mistake", "the client left"],
)
def test_every_request_is_counted_with_a_status(sent: list[Message], error: ValueError | None, status: int) -> None:
    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        if error is not None:
            raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    raising: AbstractContextManager[object] = nullcontext() if error is None else pytest.raises(ValueError, match="a mistake")
    scheduler = Scheduler(ServeLimits())
    metrics = ServeMetrics(scheduler)
    guard = Guard(answer, ServeLimits(), metrics)
    try:
        with raising:
            asyncio.run(guard({"type": "http", "path": "/", "headers": [(b"host", b"localhost")]}, receive, send))
    finally:
        scheduler.close()
    assert f'omnictl_requests_total{{route="none",status="{status}"}} 1.0' in metrics.text().decode()
