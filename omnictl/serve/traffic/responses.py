"""Answers of jobs: whole as JSON or a file, or in pieces as they come; a client that goes away stops its job."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from omnictl.errors import OmniError
from omnictl.serve.traffic.errors import error_body
from omnictl.serve.traffic.scheduler import Job

T = TypeVar("T")

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
"""Ends a stream of chat completions."""


def server_sent_event(value: Mapping[str, object], name: str | None = None) -> bytes:
    """One event of a `text/event-stream`."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


async def until_disconnect(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do some work for a client whose request was read to its end, as long as the client is there.

    Raises:
        ClientDisconnect: it has gone.
    """
    results: list[T] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            results.append(await work())
        finally:
            group.cancel_scope.cancel()
    if not results:
        raise ClientDisconnect
    return results[0]


async def collect(request: Request, job: Job[T]) -> list[T]:
    """All chunks of a job.

    Raises:
        OmniError: what the job raised.
        ClientDisconnect: nobody waits for it any more.
    """
    try:
        return await until_disconnect(request.receive, lambda: _read_all(job))
    except BaseExceptionGroup as group:
        raise _only(group) from group
    finally:
        job.cancel()


async def _read_all(job: Job[T]) -> list[T]:
    return [chunk async for chunk in job]


class JobResponse:
    """A response that is sent while its job is under way. Until the first chunk is there, an error still has a status of its own.

    Args:
        job: makes the chunks.
        render: turns a chunk into bytes.
        media_type: of the body.
        last: bytes at the end of a body without an error.
        headers: of the response.
    """

    def __init__(
        self,
        job: Job[T],
        render: Callable[[T], Iterable[bytes]],
        *,
        media_type: str,
        last: Callable[[], bytes] = bytes,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._job, self._render, self._last = job, render, last
        self._headers = {"content-type": media_type, "cache-control": "no-store", **(headers or {})}
        self._begun = False
        self._is_events = media_type.startswith("text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        try:
            await until_disconnect(receive, lambda: self._send(send))
        except ClientDisconnect:
            pass
        except BaseExceptionGroup as group:
            error = _only(group)
            if not (self._begun and isinstance(error, OmniError)):
                raise error from group
            logger.warning(
                "a response was broken off: %s", error.message
            )  # its status was sent: that it is cut off tells the client
        finally:
            self._job.cancel()

    async def _send(self, send: Send) -> None:
        async for body in self._bodies():
            if not self._begun:
                await send({"type": "http.response.start", "status": 200, "headers": self._raw_headers()})
                self._begun = True
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _bodies(self) -> AsyncIterator[bytes]:
        begun = False
        try:
            async for chunk in self._job:
                for body in self._render(chunk):
                    begun = True
                    yield body
        except OmniError as error:
            if not begun or not self._is_events:
                raise
            yield server_sent_event(error_body(error))
            return
        yield self._last()

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group with one task that can fail."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
