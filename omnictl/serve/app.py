"""The application: routes, errors and the life of a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from omnictl.errors import OmniError
from omnictl.generate.slot_pool import SlotPool
from omnictl.serve.endpoints import chat, models, page, speech, status, transcriptions
from omnictl.serve.metrics import ServeMetrics
from omnictl.serve.model import ServedModel
from omnictl.serve.realtime import connection as realtime
from omnictl.serve.service import Service, VadKind
from omnictl.serve.traffic.access import GONE, Guard
from omnictl.serve.traffic.errors import RequestError, error_body, error_response
from omnictl.serve.traffic.limits import ServeLimits
from omnictl.serve.traffic.scheduler import Scheduler


def create_app(model: ServedModel, limits: ServeLimits, *, api_key: str | None, vad: VadKind = "level") -> Starlette:
    """The server of a model, as an ASGI application.

    Args:
        model: what is served.
        limits: of requests.
        api_key: what clients must show; None: nothing, and only programs of this machine may ask.
        vad: what tells when somebody speaks, in conversations by voice.
    """
    scheduler = Scheduler(limits)
    metrics = ServeMetrics(scheduler)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            scheduler.close()

    app = Starlette(
        routes=[
            *models.ROUTES,
            *chat.ROUTES,
            *transcriptions.ROUTES,
            *speech.ROUTES,
            *realtime.ROUTES,
            *status.ROUTES,
            *page.page_routes(),
        ],
        middleware=[Middleware(Guard, limits=limits, metrics=metrics, api_key=api_key)],
        exception_handlers={OmniError: _named, HTTPException: _http, ClientDisconnect: _gone, Exception: _unexpected},
        lifespan=lifespan,
    )
    pool = SlotPool(model.session.respondent.model.thinker, limits.active)
    app.state.service = Service(model, limits, scheduler, metrics, pool, vad)
    return app


async def _named(_: Request, error: Exception) -> Response:
    return error_response(cast("OmniError", error))


async def _http(request: Request, error: Exception) -> Response:
    status = cast("HTTPException", error).status_code
    fixes = {404: "see docs/serve.md for what there is", 405: "use another method"}
    message = f"{request.method} {request.url.path[:100]}: {cast('HTTPException', error).detail}"
    return error_response(RequestError(message, fix=fixes.get(status, "correct the request"), status=status, code="not_found"))


async def _gone(_: Request, error: Exception) -> Response:  # noqa: ARG001  nobody reads it
    return Response(status_code=GONE)


async def _unexpected(_: Request, error: Exception) -> Response:  # it is logged by the server
    return JSONResponse(error_body(error), status_code=500)
