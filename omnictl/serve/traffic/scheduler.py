"""One thread that computes for all requests in turns: a slice of each (a token, a chunk of audio), then the next one's.

Work is a generator: what it yields is for the client, None only ends its slice. Nothing of a request is computed while its client
does not read, after the client has gone, or after its time is up. Requests beyond those in turn wait in the order of arrival;
beyond these, they are refused.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Condition, Thread
from typing import Generic, NamedTuple, TypeVar

from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.limits import ServeLimits

T = TypeVar("T")

MOST_UNREAD = 64
"""Chunks that wait for a client before its work rests."""

TICK_SECONDS = 0.25
"""How often time limits are looked at when there is nothing to compute."""


class _End(NamedTuple):
    """In place of a chunk: the work is over, with an error or without."""

    error: BaseException | None


class Job(Generic[T]):
    """Work that a client waits for; iterate over it for its chunks, and `cancel` it when nobody reads on.

    Args:
        work: the generator.
        wake: tells the thread that something has changed.
    """

    def __init__(self, work: Iterator[T | None], wake: Callable[[], None]) -> None:
        self.work = work
        self.deadline = float("inf")
        """Of `time.monotonic`, once it has its turn."""
        self.cancelled = False
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[T | _End] = asyncio.Queue()
        self._unread = 0  # counted up by the thread that computes, down by the loop's

    @property
    def rests(self) -> bool:
        """Whether the client has enough to read."""
        return self._unread >= MOST_UNREAD

    def cancel(self) -> None:
        """Compute no more of it."""
        self.cancelled = True
        self._wake()

    def deliver(self, chunk: "T | _End") -> None:
        """From the thread that computes: hand a chunk to the client."""
        self._loop.call_soon_threadsafe(self._take, chunk)

    def _take(self, chunk: "T | _End") -> None:
        self._unread += 1
        self._chunks.put_nowait(chunk)

    async def __aiter__(self) -> AsyncIterator[T]:
        """The chunks as they come.

        Raises:
            OmniError: what the work raised.
        """
        while True:
            chunk = await self._chunks.get()
            rested, self._unread = self.rests, self._unread - 1
            if rested:
                self._wake()
            if isinstance(chunk, _End):
                if chunk.error is not None:
                    raise chunk.error
                return
            yield chunk


class Scheduler:
    """Takes turns.

    Args:
        limits: how many requests, and how long.
    """

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self._changed = Condition()
        self._active: list[Job[object]] = []
        self._waiting: deque[Job[object]] = deque()
        self._closing = False
        self._thread = Thread(target=self._run, name="omnictl-compute", daemon=True)
        self._thread.start()

    @property
    def num_active(self) -> int:
        """Requests that are computed in turns."""
        return len(self._active)

    @property
    def num_waiting(self) -> int:
        """Requests that have no turn yet."""
        return len(self._waiting)

    def submit(self, work: Iterator[T | None]) -> Job[T]:
        """Take on some work; from within an event loop.

        Raises:
            RequestError: too many requests wait already.
        """
        job = Job(work, self._wake)
        with self._changed:
            if len(self._active) + len(self._waiting) >= self._limits.active + self._limits.waiting or self._closing:
                waiting = len(self._waiting)
                raise RequestError(
                    f"{waiting} requests wait already",
                    fix="ask again later",
                    status=429,
                    code="rate_limit_exceeded",
                    headers={"Retry-After": str(1 + waiting // 4)},
                )
            self._waiting.append(job)  # type: ignore[arg-type]  # what chunks are concerns only who reads them
            self._changed.notify_all()
        return job

    def close(self) -> None:
        """End all work, and the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while turn := self._next_turn():
            for job in turn:
                self._advance(job)
        for job in [*self._active, *self._waiting]:
            self._end(job, RequestError("the server is shutting down", fix="ask again later", status=503))

    def _next_turn(self) -> list[Job[object]]:
        """The jobs that can go on now; waits for one. None when the server closes."""
        with self._changed:
            while not self._closing:
                while self._waiting and len(self._active) < self._limits.active:
                    job = self._waiting.popleft()
                    job.deadline = time.monotonic() + self._limits.request_seconds
                    self._active.append(job)
                self._waiting = deque(job for job in self._waiting if not job.cancelled)
                now = time.monotonic()
                if turn := [job for job in self._active if job.cancelled or not job.rests or now > job.deadline]:
                    return turn
                self._changed.wait(TICK_SECONDS if self._active else None)
        return []

    def _advance(self, job: Job[object]) -> None:
        """One slice."""
        if job.cancelled:
            self._end(job, None)
            return
        if time.monotonic() > job.deadline:
            seconds = self._limits.request_seconds
            fix = "ask for less, with a smaller max_tokens"
            self._end(job, RequestError(f"the request took more than {seconds:.0f} s", fix=fix, status=408, code="timeout"))
            return
        try:
            chunk = next(job.work)
        except StopIteration:
            self._end(job, None)
        except Exception as error:  # noqa: BLE001  whose request it was gets it, and the others go on
            self._end(job, error)
        else:
            if chunk is not None:
                job.deliver(chunk)

    def _end(self, job: Job[object], error: BaseException | None) -> None:
        close = getattr(job.work, "close", None)
        if close is not None:
            close()
        with self._changed:
            if job in self._active:
                self._active.remove(job)
        if not job.cancelled:
            job.deliver(_End(error))
