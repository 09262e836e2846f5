"""Turns, limits, and clients that go away."""

import asyncio
from collections.abc import Iterator
from threading import Event

import httpx
import pytest
from loopback import serving

from omnictl.serve.model import ServedModel
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.limits import ServeLimits
from omnictl.serve.traffic.scheduler import MOST_UNREAD, Job, Scheduler


async def read(job: Job[str]) -> list[str]:
    return [chunk async for chunk in job]


def run(limits: ServeLimits, test) -> object:  # type: ignore[no-untyped-def]
    async def main() -> object:
        scheduler = Scheduler(limits)
        try:
            return await test(scheduler)
        finally:
            scheduler.close()

    return asyncio.run(main())


def test_requests_take_turns() -> None:
    order: list[str] = []
    go = Event()

    def work(name: str) -> Iterator[str | None]:
        go.wait()
        for number in range(3):
            order.append(name)
            yield f"{name}{number}"

    async def test(scheduler: Scheduler) -> list[list[str]]:
        jobs = [scheduler.submit(work(name)) for name in "abc"]
        go.set()
        return await asyncio.gather(*map(read, jobs))

    assert run(ServeLimits(), test) == [["a0", "a1", "a2"], ["b0", "b1", "b2"], ["c0", "c1", "c2"]]
    assert sorted(order[-3:]) == ["a", "b", "c"]


def test_too_many_are_told_to_come_back() -> None:
    go = Event()

    def work() -> Iterator[str]:
        go.wait()
        yield "done"

    async def test(scheduler: Scheduler) -> RequestError:
        jobs = [scheduler.submit(work()) for _ in range(3)]
        with pytest.raises(RequestError) as refused:
            scheduler.submit(work())
        go.set()
        assert await asyncio.gather(*map(read, jobs)) == [["done"]] * 3
        return refused.value

    error = run(ServeLimits(active=1, waiting=2), test)
    assert isinstance(error, RequestError)
    assert (error.status, error.headers) == (429, {"Retry-After": "1"})


def test_an_error_reaches_its_client_alone() -> None:
    def broken() -> Iterator[str]:
        yield "one"
        raise RequestError("no more", fix="stop")

    async def test(scheduler: Scheduler) -> None:
        good, bad = scheduler.submit(iter(["fine"])), scheduler.submit(broken())
        with pytest.raises(RequestError, match="no more"):
            await read(bad)
        assert await read(good) == ["fine"]

    run(ServeLimits(), test)


def test_work_is_closed_when_its_client_goes() -> None:
    begun, closed = Event(), Event()

    def endless() -> Iterator[str | None]:
        try:
            while True:
                begun.set()
                yield None
        finally:
            closed.set()

    async def test(scheduler: Scheduler) -> None:
        job = scheduler.submit(endless())
        assert await asyncio.to_thread(begun.wait, 10)
        job.cancel()
        assert await asyncio.to_thread(closed.wait, 10)

    run(ServeLimits(), test)


def test_work_rests_while_its_client_does_not_read_and_ends_when_its_time_is_up() -> None:
    made: list[int] = []

    def endless() -> Iterator[str | None]:
        while True:
            made.append(1)
            yield "more"

    async def test(scheduler: Scheduler) -> int:
        job = scheduler.submit(endless())
        await asyncio.to_thread(scheduler._thread.join, 0.4)
        waited = len(made)
        with pytest.raises(RequestError, match="took more than"):
            await read(job)
        return waited

    count = run(ServeLimits(request_seconds=0.6), test)
    assert isinstance(count, int)
    assert count >= MOST_UNREAD


def test_a_client_that_hangs_up_stops_its_generation(served: ServedModel) -> None:
    asked = {"model": "omnictl", "messages": [{"role": "user", "content": "hello"}], "stream": True, "temperature": 5}
    with serving(served) as url, httpx.Client(base_url=url, timeout=60) as client:
        with client.stream("POST", "/v1/chat/completions", json=asked) as response:
            next(response.iter_lines())
        for _ in range(1_000):
            if client.get("/health").json()["active"] == 0:
                break
        else:
            pytest.fail("it is still being answered")
