"""A page that is made anew whenever a browser of this machine asks for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from omnictl.errors import OmniError, UsageError
from omnictl.report.html import element, page

HOST = "127.0.0.1"
"""Nobody else can ask."""


@contextmanager
def serve_page(render: Callable[[], str], port: int) -> Iterator[str]:
    """Serve one page while the block runs; gives its address.

    Args:
        render: makes the page.
        port: 0: any that is free.

    Raises:
        UsageError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        """Answers every path with the page."""

        def do_GET(self) -> None:
            content = _rendered(render).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  as http.server names it
            """Say nothing."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used: {error.strerror}",
            where="--port",
            fix="choose another one, or --port 0 for any that is free",
        ) from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _rendered(render: Callable[[], str]) -> str:
    """The page, or what is wrong with the run, to be asked for again."""
    try:
        return render()
    except OmniError as error:
        return page("omnictl", element("p", error.message), element("p", error.fix), refresh_seconds=5)
