"""`omnictl serve`: a trained model as a server, with OpenAI's API."""

import socket
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import DeviceOption, RunOption, RunsOption
from omnictl.cli.use.chat import default_temperature, find_partner
from omnictl.errors import UsageError
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from omnictl.serve.model import ServedModel

DRAIN_SECONDS = 30
"""For answers that are under way when the server is told to stop."""

HOST, PORT = "127.0.0.1", 8000


class VadName(StrEnum):
    """What tells that somebody speaks."""

    level = "level"
    silero = "silero"


def serve(
    run: RunOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own need a key.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = PORT,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="OMNICTL_API_KEY",
            help="What clients must show; better given as $OMNICTL_API_KEY, where other users do not see it.",
            show_default=False,
            show_envvar=False,
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another model name to answer to, such as gpt-4o; repeatable.", show_default=False),
    ] = None,
    vad: Annotated[
        VadName, typer.Option(help="What tells that somebody speaks: the level, or Silero's network ('omnictl[vad]').")
    ] = VadName.level,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Serve the newest model of stage E, else the newest Thinker, to programs made for OpenAI's API."""
    output = Output(as_json=False)
    _check_address(host, api_key)
    _check_extra("serve", ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"))
    if vad is VadName.silero:
        _check_extra("vad", ("silero_vad", "onnxruntime"))
    from omnictl.serve.app import create_app
    from omnictl.serve.traffic.limits import ServeLimits

    with _listen(host, port) as listener:
        model = _open_model(run, runs, alias or [], device, output)
        limits = ServeLimits()
        app = create_app(model, limits, api_key=api_key, vad=vad.value)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        for line in _greeting(model, address):
            output.say(escape(line))
        import uvicorn

        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=limits.connections,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            ws_max_size=limits.body_bytes,
            server_header=False,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # after every answer has been given: the way to stop a server
            output.say("stopped")


def _check_address(host: str, api_key: str | None) -> None:
    """Refuse to be open to others without a key.

    Raises:
        UsageError: that is what was asked for.
    """
    import ipaddress

    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not api_key:
        raise UsageError(
            f"on {host} other machines could ask, too, and no key keeps them out",
            where="--host",
            fix=f"set a key (`export OMNICTL_API_KEY=$(openssl rand -hex 16)`), or listen on {HOST}",
        )
    if api_key is not None and (not api_key.strip() or not api_key.isascii() or not api_key.isprintable() or " " in api_key):
        raise UsageError("the key is empty, or has spaces or letters beyond ASCII", where="--api-key", fix="choose another")


def _check_extra(extra: str, modules: tuple[str, ...]) -> None:
    """Say what is missing.

    Raises:
        UsageError: the extra is not installed.
    """
    from importlib.util import find_spec

    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        message = f"the server needs packages that are not installed: {', '.join(missing)}"
        raise UsageError(message, where="omnictl serve", fix=f"pip install 'omnictl[{extra}]'")


def _listen(host: str, port: int) -> socket.socket:
    """A socket on an address.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        fix = f"choose another port (--port {port + 1 if port < 65_535 else 0}), or stop what listens there"
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror}", where="--port", fix=fix) from error


def _open_model(run: str | None, runs: "RunsOption", names: list[str], device: str, output: Output) -> "ServedModel":
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.serve.model import find_parts, open_served_model
    from omnictl.trainer.hardware.device import choose_device

    root = run_root(runs)
    partner = find_partner(root, run)
    parts = find_parts(partner.model, root)
    output.say(f"loading {escape(str(partner.path))} …")
    return open_served_model(
        (partner.path.name, *names),
        partner.model,
        parts,
        choose_device(device),
        cache_dir(),
        temperature=default_temperature(partner),
    )


def _greeting(model: "ServedModel", address: str) -> list[str]:
    abilities = [
        f"takes {', '.join(['text', *sorted(model.session.senses)])}",
        f"speaks as {', '.join(model.voice.speakers) or 'one voice'}" if model.voice else "does not speak",
        "transcribes" if model.recogniser else "does not transcribe",
    ]
    return [
        f"{model.names[0]}: {'; '.join(abilities)}",
        f"serving on {address}; for programs: OPENAI_BASE_URL={address}/v1, model {model.names[-1]!r}; Ctrl-C stops",
    ]
