"""Servers on the loopback, and what clients send them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from omnictl.serve.app import create_app
from omnictl.serve.model import ServedModel
from omnictl.serve.traffic.limits import ServeLimits

EXAMPLES = Path(__file__).parents[2] / "examples"
SCENE, QUESTION = EXAMPLES / "scene.png", EXAMPLES / "question.wav"


@contextmanager
def serving(model: ServedModel, limits: ServeLimits | None = None, *, api_key: str | None = None) -> Iterator[str]:
    """The address of a server, until the block ends."""
    app = create_app(model, limits or ServeLimits(), api_key=api_key)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()
