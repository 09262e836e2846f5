"""How large the record batches of an Arrow stream are before Arrow unpacks them.

Those that are not compressed lie in the file as they are, and each compressed buffer says its size in its first eight bytes. The
messages are flatbuffers (https://arrow.apache.org/docs/format/Columnar.html), of which the few fields that matter are read here.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnictl.errors import DataError
from omnictl.regular_files import MIB

LARGEST_BATCH = 1024 * MIB
"""Bytes, unpacked."""

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2  # `MessageHeader`
_HEADER_TYPE, _HEADER, _DATA, _BUFFERS, _COMPRESSION = 1, 2, 1, 2, 3
"""Fields, by their places in their tables: of `Message`, of `DictionaryBatch`, of `RecordBatch`."""


def check_batches(path: Path, messages: Any) -> None:
    """Refuse a stream with a compressed batch that memory may not hold.

    Args:
        path: of the file.
        messages: a `pyarrow.ipc.MessageReader` on it.

    Raises:
        DataError: there is one, or a message is broken.
    """
    for number, message in enumerate(_messages(messages)):
        try:
            size = _unpacked(bytes(message.metadata), message.body)
        except (struct.error, IndexError, ValueError, TypeError) as error:
            raise DataError(
                f"{path} is not a whole Arrow file: message {number} is broken", where=str(path), fix="write or download it anew"
            ) from error
        if size > LARGEST_BATCH:
            raise DataError(
                f"{path}: record batch {number} would unpack to {size:,} bytes; at most {LARGEST_BATCH >> 20:,} MiB were expected",
                where=str(path),
                fix="write the file anew in smaller batches, or leave it out",
            )


def _messages(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _unpacked(metadata: bytes, body: Any) -> int:
    """Bytes that the buffers of a message will take beyond those in the file: none if they are not compressed."""
    message = _Table(metadata, _number(metadata, 0, "<I"))
    kind = message.byte(_HEADER_TYPE)
    batch = message.table(_HEADER)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = batch.table(_DATA)
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH) or batch is None or batch.table(_COMPRESSION) is None:
        return 0
    return sum(max(0, _number(body, offset, "<q")) for offset, length in batch.buffers(_BUFFERS) if length >= 8)


class _Table:
    """A table of a flatbuffer: its fields stand where its virtual table says."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _number(data, at, "<i")

    def _place(self, field: int) -> int | None:
        size = _number(self._data, self._fields, "<H")
        entry = 4 + 2 * field
        offset = _number(self._data, self._fields + entry, "<H") if entry < size else 0
        return self._at + offset if offset else None

    def byte(self, field: int) -> int:
        """A field of one byte; 0 if it is not there."""
        place = self._place(field)
        return 0 if place is None else self._data[place]

    def table(self, field: int) -> "_Table | None":
        """A field that is another table."""
        place = self._place(field)
        return None if place is None else _Table(self._data, place + _number(self._data, place, "<I"))

    def buffers(self, field: int) -> Iterator[tuple[int, int]]:
        """Offsets and lengths, from a vector of pairs."""
        place = self._place(field)
        if place is not None:
            start = place + _number(self._data, place, "<I")
            for number in range(_number(self._data, start, "<I")):
                yield _number(self._data, start + 4 + 16 * number, "<q"), _number(self._data, start + 12 + 16 * number, "<q")


def _number(data: Any, at: int, form: str) -> int:
    if at < 0:
        raise ValueError("an offset leads out of the message")
    (value,) = struct.unpack_from(form, data, at)
    return int(value)
