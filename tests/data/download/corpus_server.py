"""A server on the loopback that serves small files, and misbehaves as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How it serves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes after which a connection is cut."""
    ranges: bool = True
    claimed: int | None = None
    """Content-Length, if it is to be a lie."""
    status: int | None = None
    asked: list[str | None] = field(default_factory=list)
    """The `Range` of each request."""


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[str]:
    """The address of a server that behaves so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.asked.append(asked)
            content = behaviour.files.get(self.path.removeprefix("/"))
            if content is None or behaviour.status is not None:
                self.send_error(behaviour.status or 404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start if behaviour.claimed is None else behaviour.claimed))
            self.end_headers()
            part = content[start:]
            cut = behaviour.cut_after is not None and behaviour.cut_after < len(part)
            self.wfile.write(part[: behaviour.cut_after] if cut else part)
            self.close_connection = cut or behaviour.claimed is not None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
