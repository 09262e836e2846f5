"""WebDataset: tar files in which the files of one sample have a name in common, `000123.jpg`, `000123.txt`, `000123.json`.

A tar is read once from its beginning to its end, a sample at a time; it may be compressed. Format after
https://github.com/webdataset/webdataset.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from omnictl.data.manifest.compression import open_bytes
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.packed.rows import AUDIO_SUFFIXES, IMAGE_SUFFIXES, MediaBytes, PackedRow
from omnictl.errors import DataError

TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz")

MAX_BYTES = 256 << 20
"""Of the files of one sample together."""

MAX_HEADER = 1 << 20
"""Bytes of a name, or of other notes on a file: they are read at once."""

_TEXTS = {".txt": "text", ".text": "text", ".caption": "caption", ".cls": "label", ".transcript": "text", ".spk": "speaker"}


def is_tar(path: PurePath) -> bool:
    """Whether a file's name is one of a tar."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def read_tar(path: Path, root: Path) -> Iterator[PackedRow]:
    """The samples of a tar in their order; its name may say which split they are.

    Args:
        path: of the tar.
        root: the folder that was given.

    Raises:
        DataError: no tar, cut off, a file in it that is too large, or broken JSON.
    """
    split = split_of_path(path, root) if path != root else None
    try:
        with open_bytes(path):  # a pipe would block
            pass
        with tarfile.open(path, "r|*", tarinfo=_Member) as tar:
            for key, fields in _samples(tar, path):
                yield PackedRow(f"{path}: {key}", fields, split)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} is not a whole tar file: {error}", where=str(path), fix="write or download it anew") from error


class _Member(tarfile.TarInfo):
    """A file of a tar, whose notes must be short."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """Read a header; raises `tarfile.ReadError` if what belongs to it is too long."""
        member = super().frombuf(buf, encoding, errors)
        if member.size > MAX_HEADER and not (member.isreg() or member.isdir() or member.islnk() or member.issym()):
            raise tarfile.ReadError(f"a header of {member.size:,} bytes, at most {MAX_HEADER:,} were expected")
        return member


def _samples(tar: tarfile.TarFile, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    key, fields, size = "", dict[str, Any](), 0
    for member in tar:
        name = PurePath(member.name)
        if not member.isfile() or name.name.startswith("."):
            continue
        stem, _, extension = name.name.partition(".")
        sample = (name.parent / stem).as_posix()
        if sample != key:
            if fields:
                yield key, fields
            key, fields, size = sample, {}, 0
        size += member.size
        if size > MAX_BYTES:
            message = f"the sample of {member.name} has {size:,} bytes; at most {MAX_BYTES:,} were expected"
            raise DataError(message, where=f"{path}: {member.name}", fix="leave it out of the tar")
        file = tar.extractfile(member)
        assert file is not None, "it is a file"
        _add(fields, f".{extension}".lower(), file.read(), f"{path}: {member.name}")
    if fields:
        yield key, fields


def _add(fields: dict[str, Any], extension: str, data: bytes, where: str) -> None:
    """Add a file to its sample; several images or recordings become a list, and take the place of a name that JSON has for them."""
    suffix = PurePath(f"x{extension}").suffix
    kind = "image" if suffix in IMAGE_SUFFIXES else "audio" if suffix in AUDIO_SUFFIXES else None
    if kind is not None:
        media = MediaBytes(data, suffix)
        earlier = [held for held in _as_list(fields.get(kind)) if isinstance(held, MediaBytes)]
        fields[kind] = [*earlier, media] if earlier else media
    elif suffix == ".json":
        fields.update({name: value for name, value in _object(data, where).items() if name not in fields})
    elif suffix in _TEXTS:
        fields[_TEXTS[suffix]] = _decode(data, where).strip()
    else:
        fields[suffix.removeprefix(".")] = f"{len(data)} bytes"  # named among what is not read


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(data, where))
    except (ValueError, RecursionError) as error:
        raise DataError(f"broken JSON: {error}", where=where, fix="write the tar anew") from error
    return value if isinstance(value, dict) else {}


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8 text: byte 0x{data[error.start]:02x}", where=where, fix="write the tar anew") from error
