"""Who may ask, and how much a request may bring: API key, own pages only, bounded bodies.

A web page of another site could reach a server on this machine through its visitor's browser. So a browser's `Origin` must be the
server itself, and without a key the `Host` must be a name of this machine, else DNS could lead here (rebinding).
"""

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnictl.serve.metrics import ServeMetrics
from omnictl.serve.traffic.errors import RequestError, error_response
from omnictl.serve.traffic.limits import ServeLimits

OPEN_PATHS = ("/health", "/static/")
"""What needs no key: it says nothing about the model and costs nothing. The page itself asks for the key."""

GONE = 499
"""nginx's status of a request whose client left before a response began."""


def is_loopback(host: str) -> bool:
    """Whether an address or a name means this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class Guard:
    """Middleware in front of every route."""

    app: ASGIApp
    limits: ServeLimits
    metrics: ServeMetrics
    api_key: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = [0]  # until a response begins

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            try:
                self._check(scope)
            except RequestError as error:
                await _refuse(error, scope, receive, sending)
                return
            await self.app(scope, self._bounded(scope, receive), sending)
        except Exception:
            status[0] = status[0] or 500  # as the layer around this one answers
            raise
        finally:
            if scope["type"] == "http":
                route = getattr(scope.get("route"), "path", "none")
                self.metrics.requests.labels(route, str(status[0] or GONE)).inc()
                self.metrics.seconds.labels(route).observe(time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            fix = "open the server's own page, or ask from a program; a proxy in front must pass on `Host`"
            raise RequestError(f"a page of {origin[:100]} may not ask here", fix=fix, where="Origin", status=403, code="forbidden")
        if self.api_key is None and not is_loopback(_name_of(host)):
            fix = "use http://127.0.0.1 or http://localhost; other names need a server with --api-key"
            raise RequestError(f"{host[:100]!r} is not a name of this machine", fix=fix, where="Host", status=403, code="forbidden")
        path = scope["path"]
        if self.api_key is not None and path != "/" and not path.startswith(OPEN_PATHS):
            self._check_key(headers, scope)
        if int_or_zero(headers.get("content-length")) > self.limits.body_bytes:
            raise self._too_large()

    def _check_key(self, headers: Headers, scope: Scope) -> None:
        assert self.api_key is not None
        if not any(hmac.compare_digest(given.encode(), self.api_key.encode()) for given in _given_keys(headers, scope)):
            fix = "send the header `Authorization: Bearer KEY` with the key that the server was started with"
            raise RequestError("the API key is missing or wrong", fix=fix, status=401, code="invalid_api_key")

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Receives a body of bounded size within a bounded time; afterwards, whatever comes."""
        if scope["type"] != "http":
            return receive
        deadline = time.monotonic() + self.limits.body_seconds
        state = {"size": 0, "whole": False}

        async def bounded() -> Message:
            if state["whole"]:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                late = f"the body did not arrive within {self.limits.body_seconds:.0f} s"
                raise RequestError(late, fix="send it faster", status=408, code="timeout") from None
            if message["type"] == "http.request":
                state["size"] += len(message.get("body", b""))
                state["whole"] = not message.get("more_body", False)
                if state["size"] > self.limits.body_bytes:
                    raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> RequestError:
        most = f"{self.limits.body_bytes / 2**20:.0f} MiB"
        message = f"the body is larger than {most}"
        return RequestError(message, fix="send smaller files", status=413, code="request_too_large")


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
    else:
        await error_response(error)(scope, receive, send)


def _given_keys(headers: Headers, scope: Scope) -> Iterable[str]:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield key.strip()
    if scope["type"] == "websocket":  # a browser cannot give a socket headers: OpenAI's convention of a subprotocol
        for protocol in headers.get("sec-websocket-protocol", "").split(","):
            name = protocol.strip()
            if name.startswith("openai-insecure-api-key."):
                key = name.removeprefix("openai-insecure-api-key.")
                yield from (key, unquote(key))  # a key with = / + is no token of HTTP, so the page quotes it


def _name_of(host: str) -> str:
    """A `Host` without its port."""
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def int_or_zero(text: str | None) -> int:
    """A whole number in a header; 0 if it is none, which other parts refuse."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0
