"""`/health` for those who watch over the server, `/metrics` for Prometheus."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from omnictl.serve.service import service_of


async def _health(request: Request) -> JSONResponse:
    scheduler = service_of(request).scheduler
    return JSONResponse({"status": "ok", "active": scheduler.num_active, "waiting": scheduler.num_waiting})


async def _metrics(request: Request) -> Response:
    metrics = service_of(request).metrics
    return Response(metrics.text(), headers={"content-type": metrics.content_type})


ROUTES = (Route("/health", _health), Route("/metrics", _metrics))
