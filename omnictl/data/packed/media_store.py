"""Images and recordings that lie inside of other files (data URLs), as files in the cache, each named by its content."""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

from omnictl.data.manifest.cache import explain_os_error
from omnictl.data.manifest.rows import Flaw

_MARK = "data:"
_SUFFIXES = {"jpeg": ".jpg", "mpeg": ".mp3", "x-wav": ".wav", "wave": ".wav", "x-flac": ".flac", "svg+xml": ".svg"}


def is_data_url(path: str) -> bool:
    """Whether a path is in truth the content of a file: `data:image/png;base64,…`."""
    return path[: len(_MARK)].lower() == _MARK


def store_data_url(url: str, cache: Path) -> Path:
    """The file in the cache that holds what a data URL says (RFC 2397).

    Raises:
        Flaw: it says nothing, or is broken.
        DataError, DiskFull: the cache cannot be written.
    """
    head, comma, content = url[len(_MARK) :].partition(",")
    if not comma:
        raise Flaw(f"the data URL {url[:40]!r}… has no comma before its content")
    media_type, *parameters = head.lower().split(";")
    is_base64 = "base64" in (parameter.strip() for parameter in parameters)
    data = decode_base64(content) if is_base64 else unquote_to_bytes(content)
    if not data:
        raise Flaw("the data URL is empty")
    return store_bytes(data, media_type.rpartition("/")[2].strip(), cache)


def decode_base64(text: str) -> bytes:
    """The bytes that base64 says, in lines or not.

    Raises:
        Flaw: it is broken.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Flaw(f"the base64 is broken or cut off: {error}") from error


def store_bytes(data: bytes, kind: str, cache: Path) -> Path:
    """The file in the cache that holds this content; written once, whole or not at all.

    Args:
        data: of an image or a recording.
        kind: what its format is called: `png`, `x-wav`.
        cache: folder of the cache.

    Raises:
        DataError, DiskFull: the cache cannot be written.
    """
    name = hashlib.blake2b(data, digest_size=20).hexdigest()
    suffix = _SUFFIXES.get(kind) or (f".{kind}" if kind.isascii() and kind.isalnum() else "")
    file = cache.resolve() / "media" / name[:2] / f"{name}{suffix}"
    if file.is_file() and file.stat().st_size == len(data):
        return file
    draft = file.with_name(f"{file.name}.{os.getpid()}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise explain_os_error(error, cache) from error
    return file
