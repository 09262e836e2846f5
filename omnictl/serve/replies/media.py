"""Images and recordings that come inside a request, as base64. No URL is fetched and no path is taken from a request."""

import base64
import binascii
from pathlib import Path

from omnictl.data.audio.decoder import probe_audio
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.images.files.decoder import probe_image
from omnictl.errors import DataError
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.limits import ServeLimits


def bytes_of_data_url(url: str, where: str) -> bytes:
    """What a `data:` URL holds.

    Raises:
        RequestError: it is another URL, or not base64.
    """
    head, comma, body = url.partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        shown = url[:40] + ("…" if len(url) > 40 else "")
        fix = "send the file itself, as data:image/png;base64,…"
        raise RequestError(f"{shown!r} is not a base64 data URL; this server fetches nothing", fix=fix, where=where)
    return bytes_of_base64(body, where)


def bytes_of_base64(text: str, where: str) -> bytes:
    """What base64 stands for.

    Raises:
        RequestError: it is not base64, or nothing.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"`{where}` is not base64: {error}", fix="encode the file's bytes as base64", where=where) from error
    if not data:
        raise RequestError(f"`{where}` holds 0 bytes", fix="send a file", where=where)
    return data


def write_media(kind: MediaKind, data: bytes, path: Path, limits: ServeLimits, where: str) -> None:
    """Write an image or a recording to a file of the server's own, if it is one and within the limits.

    Raises:
        DataError: it is not; the error names the parameter instead of the file.
    """
    path.write_bytes(data)
    try:
        if kind == "image":
            probe_image(path, max_pixels=limits.image_pixels)
        else:
            probe_audio(path, max_seconds=limits.audio_seconds)
    except DataError as error:
        raise DataError(error.message.replace(str(path), where), fix=error.fix.replace(path.name, "FILE"), where=where) from error
