"""How large the pages of a Parquet file are, from their headers: Arrow unpacks a page whole, and a kilobyte can become gigabytes.

What the footer says of row groups is not enough, as it may be anything; a page's header is what Arrow allocates by. Headers are
structs in Thrift's compact protocol (https://github.com/apache/parquet-format, `parquet.thrift`: `PageHeader`), of which the first
three fields are read here and the others passed over.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from omnictl.errors import DataError
from omnictl.regular_files import MIB, open_regular

LARGEST_PAGE = 1024 * MIB
"""Bytes, unpacked. Writers look at the size only after a thousand values or so, and those can be images."""

SUSPECT_PAGE, SUSPECT_RATIO = 64 * MIB, 100
"""Bytes, unpacked. A larger page packed more than so many times is made to fill memory: text packs tenfold, media hardly at all."""

MOST_VALUES = 1 << 26
"""In a column of lists, of one row group: any number of them may belong to one row."""

_LONGEST_HEADER = MIB
_DEEPEST = 16

_BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 3, 7, 8, 9, 10, 11, 12
_WHOLE_NUMBERS = (4, 5, 6)


class Page(NamedTuple):
    """A page of a column, a dictionary among them."""

    place: str
    packed: int  # bytes
    unpacked: int


def check_pages(path: Path, metadata: Any, columns: Collection[str]) -> int:
    """Refuse a file with pages that memory may not hold; returns the bytes of the largest, unpacked.

    Args:
        path: of the file.
        metadata: its `pyarrow.parquet.FileMetaData`.
        columns: that will be read.

    Raises:
        DataError: a page is too large, its header is broken, or a list has too many values.
    """
    largest = 0
    with open_regular(path) as file:
        for page in _pages(file, metadata, columns, path):
            largest = max(largest, page.unpacked)
            is_bomb = page.unpacked > SUSPECT_PAGE and page.unpacked > SUSPECT_RATIO * page.packed
            if page.unpacked > LARGEST_PAGE or is_bomb:
                raise _too_large(path, page)
    return largest


def _pages(file: IO[bytes], metadata: Any, columns: Collection[str], path: Path) -> Iterator[Page]:
    size = os.fstat(file.fileno()).st_size
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if chunk.path_in_schema.partition(".")[0] not in columns:
                continue
            place = f"row group {group + 1}, column {chunk.path_in_schema!r}"
            if metadata.schema.column(number).max_repetition_level and chunk.num_values > MOST_VALUES:
                raise _too_many(path, place, chunk.num_values)
            at = min(offset for offset in (chunk.dictionary_page_offset, chunk.data_page_offset) if offset)
            end = min(at + chunk.total_compressed_size, size)
            while at < end:
                file.seek(at)
                page = _read_header(file, place, path)
                yield page
                at = file.tell() + page.packed


def _read_header(file: IO[bytes], place: str, path: Path) -> Page:
    try:
        fields = _Header(file).whole_numbers(3)
        page = Page(place, fields[3], fields[2])
    except (KeyError, ValueError) as error:
        raise _broken(path, place) from error
    if page.packed < 0 or page.unpacked < 0:
        raise _broken(path, place)
    return page


class _Header:
    """A struct in Thrift's compact protocol."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _LONGEST_HEADER

    def whole_numbers(self, last: int) -> dict[int, int]:
        """The fields up to the `last` that are whole numbers, by their numbers; afterwards all of the struct is read.

        Raises:
            ValueError: it is broken.
        """
        return {number: value for number, value in self._fields(0) if value is not None and number <= last}

    def _fields(self, depth: int) -> Iterator[tuple[int, int | None]]:
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            yield number, self._value(head & 15, depth)

    def _value(self, kind: int, depth: int) -> int | None:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        if kind in _WHOLE_NUMBERS:
            return self._zigzag()
        if kind in (1, 2):  # true and false stand in the head
            return None
        if kind == _STRUCT:
            for _ in self._fields(depth + 1):
                pass
        elif kind in (_LIST, _SET):
            head = self._byte()
            for _ in range(self._varint() if head >> 4 == 15 else head >> 4):
                self._item(head & 15, depth)
        elif kind == _MAP:
            self._map(depth)
        elif kind in (_BYTE, _DOUBLE, _BINARY):
            self._skip({_BYTE: 1, _DOUBLE: 8}.get(kind) or self._varint())
        else:
            raise ValueError(f"there is no kind {kind}")
        return None

    def _map(self, depth: int) -> None:
        count = self._varint()
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._item(kinds >> 4, depth)
            self._item(kinds & 15, depth)

    def _item(self, kind: int, depth: int) -> None:
        if kind in (1, 2):  # within lists they take a byte
            self._byte()
        else:
            self._value(kind, depth + 1)

    def _byte(self) -> int:
        self._left -= 1
        data = self._file.read(1)
        if not data or self._left < 0:
            raise ValueError("it is cut off")
        return data[0]

    def _skip(self, count: int) -> None:
        self._left -= count
        if self._left < 0 or len(self._file.read(count)) < count:
            raise ValueError("it is cut off")

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number does not end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _too_large(path: Path, page: Page) -> DataError:
    return DataError(
        f"{path}: a page of {page.packed:,} bytes in {page.place} would unpack to {page.unpacked:,}; at most "
        f"{LARGEST_PAGE // MIB:,} MiB are unpacked at once, above {SUSPECT_PAGE // MIB} MiB no more than {SUSPECT_RATIO} times "
        "what is stored",
        where=str(path),
        fix="write the file anew in small pages (pyarrow: data_page_size=2**20, write_batch_size=16), or leave it out",
    )


def _too_many(path: Path, place: str, count: int) -> DataError:
    return DataError(
        f"{path}: {place} has {count:,} values in its lists; at most {MOST_VALUES:,} were expected",
        where=str(path),
        fix="write the file anew in smaller row groups (pyarrow: row_group_size=1000), or leave it out",
    )


def _broken(path: Path, place: str) -> DataError:
    return DataError(
        f"{path} is not a whole Parquet file: {place} has a broken page", where=str(path), fix="write or download it anew"
    )
