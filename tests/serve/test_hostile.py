"""Requests that mean no good: each is refused or hung up on, nothing is logged as a mistake, and nothing is left behind."""

import asyncio
import base64
import gc
import json
import logging
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from loopback import QUESTION, SCENE, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from omnictl.serve.model import ServedModel
from omnictl.serve.traffic.limits import ServeLimits

pytestmark = pytest.mark.faults

TIMES = int(os.environ.get("OMNICTL_FAULTS", "60"))
"""Requests; 2,000 for the figure in docs/reliability.md."""

IMAGE = "data:image/png;base64," + base64.b64encode(SCENE.read_bytes()).decode()
AUDIO = base64.b64encode(QUESTION.read_bytes()).decode()
CHAT = {
    "model": "omnictl",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": IMAGE}}]},
    ],
    "max_tokens": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "seed": 1,
    "stop": ["x"],
    "n": 1,
    "stream": False,
}
HEARD = {**CHAT, "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": AUDIO}}]}]}
SPEECH = {"model": "omnictl", "input": "hi", "voice": "alloy", "response_format": "wav", "speed": 4.0, "pitch": 1.0, "seed": 3}
ODD: tuple[object, ...] = (
    None, True, -1, 0, 10**30, -(10**30), 1e308, 5e-324, "", "\0", "\ud7ff", "file:///etc/passwd", "x" * 70_000,
    [], {}, [[[[[[]]]]]], {"type": "text"}, [None] * 99, "data:image/png;base64,iVBORw0KGgo=", "http://127.0.0.1:1/", "<|end|>" * 9,
)  # fmt: skip
EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "session.update", "session": {"output_modalities": ["text"], "temperature": 1.0, "audio": {"output": {"speed": 2.0}}}},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(4_800)).decode()},
    {"type": "input_audio_buffer.append", "audio": AUDIO[: 4 * 8_000]},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    },
    {"type": "conversation.item.truncate", "item_id": "item_1", "audio_end_ms": 5},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "response.create", "response": {"max_output_tokens": 3, "output_modalities": ["text"]}},
    {"type": "response.cancel"},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def spoil(value: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The same with an odd value somewhere, something missing, or something more."""
    spoilt = json.loads(json.dumps(value))
    *way, last = rng.choice(list(places(spoilt)))
    holder: Any = spoilt
    for key in way:
        holder = holder[key]
    match rng.randrange(4):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(["", "__class__", "tools", "x" * 1_000, "model "])] = rng.choice(ODD)
        case _:
            holder[last] = rng.choice(ODD)
    return spoilt  # type: ignore[no-any-return]


def scramble(data: bytes, rng: random.Random) -> bytes:
    """The same with some bytes replaced, cut out or repeated."""
    mutant = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at, size = rng.randrange(len(mutant) + 1), rng.randrange(40)
        mutant[at : at + size * rng.randrange(2)] = rng.choice(
            [rng.randbytes(size), mutant[at : at + size] * 2, b"", b"\r\n\r\n", b"[" * 9_000]
        )
    return bytes(mutant)


def head(path: str, length: object, host: str, *more: str, kind: str = "application/json", method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        "Connection: close",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nomnictl\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    + QUESTION.read_bytes()[:9_000]
    + b"\r\n--b--\r\n"
)


def spoilt_body(rng: random.Random, host: str) -> bytes:
    path, body = rng.choice([("/v1/chat/completions", CHAT), ("/v1/chat/completions", HEARD), ("/v1/audio/speech", SPEECH)])
    data = json.dumps(spoil(body, rng)).encode()
    data = scramble(data, rng) if rng.random() < 0.3 else data
    return head(path, len(data), host) + data


def spoilt_form(rng: random.Random, host: str) -> bytes:
    data = scramble(FORM, rng)
    kind = rng.choice(
        ["multipart/form-data; boundary=b"] * 4 + ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 5_000]
    )
    return head("/v1/audio/transcriptions", len(data), host, kind=kind) + data


def odd_head(rng: random.Random, host: str) -> bytes:
    body = json.dumps(SPEECH).encode()
    return rng.choice([
        head("/v1/audio/speech", 10**15, host),
        head("/v1/audio/speech", -5, host) + body,
        head("/v1/audio/speech", "9" * 400, host) + body,
        head("/v1/audio/speech", len(body), host, "Content-Length: 3") + body,
        head("/v1/audio/speech", len(body), host, "Transfer-Encoding: chunked") + body,
        head("/v1/audio/speech", len(body), host, "Origin: null") + body,
        head("/v1/audio/speech", len(body), host, "X: " + "y" * 200_000) + body,
        head("/v1/audio/speech", len(body), host, *(f"X{number}: y" for number in range(3_000))) + body,
        head("/v1/audio/speech", len(body), "example.com") + body,
        head("/v1/audio/speech", len(body), "é\0") + body,
        head("/v1/audio/speech", len(body), host, "Upgrade: websocket", "Connection: Upgrade") + body,
        head("/v1/realtime", 0, host, method="GET"),
        head("/v1/realtime", 0, host, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", method="GET"),
        head("/static/../../../etc/passwd", 0, host, method="GET"),
        head("/static/%2e%2e/%2e%2e/pyproject.toml", 0, host, method="GET"),
        head("/v1/models/%00%ff", 0, host, method="GET"),
        head("/" + "a" * 100_000, 0, host, method="GET"),
        head("/v1/models", 0, host, method="BREW"),
        head("/v1/models", 0, host, method="DELETE"),
        head("http://example.com/v1/chat/completions", len(body), host) + body,
        head("/v1/chat/completions", len(body), host, kind="text/plain") + body,
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(100),
        rng.randbytes(500),
        b"\r\n" * 100,
    ])  # fmt: skip


def ask(address: str, data: bytes, patience: float) -> int:
    """The status of what comes back to some bytes; 0 if the server hangs up, or waits for more of them than there is patience."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=patience) as opened:
        with suppress(ConnectionError):
            opened.sendall(data)
        with suppress(ConnectionError, TimeoutError):
            answer = b"".join(iter(lambda: opened.recv(65_536), b""))
            assert b"Traceback" not in answer
            return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
    return 0


def cut(address: str, rng: random.Random) -> int:
    """A request whose client is gone before it has sent or read all of it."""
    parts = urlsplit(address)
    body = json.dumps({**CHAT, "stream": rng.random() < 0.5, "max_tokens": 50}).encode()
    data = head("/v1/chat/completions", len(body), parts.netloc) + body
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as opened:
        opened.sendall(data[: rng.choice([5, 60, 200, len(data) - 1, len(data)])])
        if rng.random() < 0.5:
            opened.settimeout(0.05)
            with suppress(TimeoutError):
                opened.recv(rng.randrange(1, 400))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hangs up without a farewell
    return 0


def converse(address: str, rng: random.Random) -> int:
    """Events in any order, some of them spoilt; errors are told as events, and the server never fails (1011)."""
    with connect(address.replace("http", "ws") + "/v1/realtime", open_timeout=30, close_timeout=1, max_size=None) as opened:
        try:
            for _ in range(rng.randrange(1, 12)):
                event = rng.choice(EVENTS)
                text = json.dumps(spoil(event, rng) if rng.random() < 0.5 else event)
                opened.send(rng.choice([text] * 8 + [text.encode(), scramble(text.encode(), rng).decode("latin-1")]))
            opened.send(json.dumps({"type": "input_audio_buffer.clear", "event_id": "last"}))
            kinds: Counter[str] = Counter()
            deadline = time.monotonic() + 30
            while "input_audio_buffer.cleared" not in kinds and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    kinds[json.loads(opened.recv(timeout=1))["type"]] += 1
            assert kinds["input_audio_buffer.cleared"], kinds
        except ConnectionClosed as closed:
            return 500 if closed.rcvd is not None and closed.rcvd.code not in (1000, 1008, 1009) else 400
        return 400 if kinds["error"] else 0


@contextmanager
def no_mistakes() -> Iterator[None]:
    """Nothing that is logged meanwhile is an error of the server's own."""
    mistakes: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = mistakes.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("", "uvicorn.error", "asyncio", "websockets")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
        gc.collect()  # exceptions of tasks that nobody has asked for are told then
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    texts = [logging.Formatter().format(record) for record in mistakes]
    assert not texts, "\n".join(texts)


def until(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not reached():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def test_hostile_requests_are_refused_and_leave_nothing_behind(served: ServedModel) -> None:
    kinds = (spoilt_body, spoilt_body, spoilt_body, spoilt_form, odd_head)
    process, statuses = psutil.Process(), Counter[int]()
    with serving(served) as address, httpx.Client(base_url=address, timeout=30) as client, no_mistakes():
        host = urlsplit(address).netloc
        client.get("/health")
        before = 0
        for number in range(TIMES):
            rng = random.Random(number)
            if number == min(20, TIMES // 2):
                before = process.num_fds()
            doing = rng.choice([*kinds, cut, converse])
            if doing is cut or doing is converse:
                status = doing(address, rng)
            else:
                status = ask(address, doing(rng, host), 0.5 if doing is odd_head else 30.0)
            assert status < 500, f"request {number}, {doing.__name__}: {status}"
            statuses[status] += 1
        assert until(lambda: client.get("/health").json()["active"] == 0)
        assert until(lambda: process.num_fds() <= before + 2)
    assert sum(count for status, count in statuses.items() if 400 <= status < 500) > TIMES / 4, statuses


def test_a_crowd_is_served_in_turn_or_told_to_come_back(served: ServedModel) -> None:
    """Many more clients at once than are served and may wait."""
    asked = {
        "model": "omnictl",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "temperature": 5,
        "max_tokens": 20,
    }
    threads = threading.active_count()

    async def one(client: httpx.AsyncClient) -> int:
        async with client.stream("POST", "/v1/chat/completions", json=asked) as response:
            body = (await response.aread()).decode()
            if response.status_code == 429:
                assert int(response.headers["retry-after"]) >= 1
            else:
                assert body.endswith("data: [DONE]\n\n"), body[-200:]
            return response.status_code

    async def crowd(address: str) -> Counter[int]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
            return Counter(await asyncio.gather(*(one(client) for _ in range(64))))

    with serving(served, ServeLimits(active=4, waiting=16)) as address, no_mistakes():
        statuses = asyncio.run(crowd(address))
        assert set(statuses) == {200, 429}
        assert statuses[200] >= 20
        assert httpx.get(f"{address}/health").json()["active"] == 0
    assert until(lambda: threading.active_count() <= threads)
