"""The page at `/` and its files: nothing from elsewhere, nothing that another site may frame."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self), camera=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def _route(path: str, name: str) -> Route:
    """A file of the page, which stays as it was when the server started."""
    body = files("omnictl.serve").joinpath("page", name).read_bytes()
    media_type = f"{MEDIA_TYPES[name.rpartition('.')[2]]}; charset=utf-8"

    async def send(_: Request) -> Response:
        return Response(body, headers={**HEADERS, "content-type": media_type})

    return Route(path, send)


def page_routes() -> list[Route]:
    """The routes of all files of the page."""
    names = sorted(
        file.name for file in files("omnictl.serve").joinpath("page").iterdir() if file.name.rpartition(".")[2] in MEDIA_TYPES
    )
    return [_route("/", "index.html"), *(_route(f"/static/{name}", name) for name in names if name != "index.html")]
