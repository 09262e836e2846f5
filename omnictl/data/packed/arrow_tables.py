"""Rows of Parquet files and of the Arrow files of Hugging Face's `Dataset.save_to_disk`, a few at a time, in memory that is bounded
whatever they unpack to.

What the columns mean beyond their types (an image, a class by number) stands in the schema, where `datasets` writes its features.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from omnictl.data.manifest.compression import open_bytes
from omnictl.data.packed.arrow_batches import check_batches
from omnictl.data.packed.parquet_pages import check_pages
from omnictl.errors import DataError
from omnictl.regular_files import MIB

MOST_BYTES = 128 * MIB
"""Of rows in memory at a time, unless one alone has more."""

LARGEST_ROWS = 1024 * MIB
"""Of the rows that become Python's values at a time."""

TABLE_SUFFIXES = (".parquet", ".arrow")
DATASETS_CACHES = "tables that Hugging Face's datasets keeps of earlier steps"
_FORMATS = {".parquet": "Parquet", ".arrow": "Arrow"}
_HF = b"huggingface"
_BESIDE_DATASETS = ("state.json", "dataset_info.json")


def is_datasets_cache(file: Path) -> bool:
    """Whether a file is what `datasets` keeps of `map`, `filter` or `shuffle` beside the data, which it repeats or shortens."""
    is_cache = file.suffix.lower() == ".arrow" and file.name.startswith("cache-")
    return is_cache and any((file.parent / name).is_file() for name in _BESIDE_DATASETS)


class ArrowTable:
    """An open file of rows."""

    def __init__(self, path: Path, source: Any, schema: Any) -> None:
        self._path, self._source, self._schema = path, source, schema

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._schema.names)

    @property
    def features(self) -> Mapping[str, Any]:
        """What `datasets` noted of the columns, by name; nothing if another program wrote the file."""
        try:
            noted = json.loads((self._schema.metadata or {}).get(_HF, b"{}"))
            features = noted.get("info", {}).get("features", {})
        except (ValueError, AttributeError):
            return {}
        return features if isinstance(features, dict) else {}

    def rows(self, num_rows: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows in their order.

        Args:
            num_rows: in memory at a time.
            columns: that are read.
        """
        if self._path.suffix.lower() == ".parquet":
            largest = check_pages(self._path, self._source.metadata, columns)
            num_rows = max(1, min(num_rows, MOST_BYTES // max(1, largest)))  # a row of a page may be all of it
            batches: Iterator[Any] = chain.from_iterable(  # one after the other: each has dictionaries of its own
                self._source.iter_batches(batch_size=num_rows, row_groups=[group], columns=list(columns))
                for group in range(self._source.num_row_groups)
            )
        else:
            batches = self._source
        first = 1
        for batch in batches:
            chosen = batch.select(list(columns))
            for start in range(0, chosen.num_rows, num_rows):
                rows = chosen.slice(start, num_rows)
                self._check_size(rows, first)
                yield from rows.to_pylist()
                first += rows.num_rows

    def _check_size(self, rows: Any, first: int) -> None:
        """Refuse rows that would fill the memory: a few bytes can stand for a long list, and each value of it for a long text."""
        size = sum(map(_num_bytes, rows.columns))
        if size > LARGEST_ROWS:
            raise DataError(
                f"{self._path}: rows {first:,} to {first + rows.num_rows - 1:,} take {size:,} bytes; "
                f"at most {LARGEST_ROWS // MIB:,} MiB were expected",
                where=f"{self._path}: row {first}",
                fix="leave these rows out, or break what they hold into several",
            )


def _num_bytes(array: Any) -> int:
    """What the values of an array will take at least: eight bytes each, and what is in them."""
    compute, types = import_module("pyarrow.compute"), import_module("pyarrow.types")
    kind, size = array.type, 8 * len(array)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_map(kind):
        return size + _num_bytes(array.flatten() if not types.is_map(kind) else array.items)
    if types.is_struct(kind):
        return size + sum(map(_num_bytes, array.flatten()))
    if types.is_dictionary(kind):
        lengths = _lengths(array.dictionary)
        return size + (0 if lengths is None else compute.sum(lengths.take(array.indices)).as_py() or 0)
    lengths = _lengths(array)
    return size + (0 if lengths is None else compute.sum(lengths).as_py() or 0)


def _lengths(array: Any) -> Any:
    """Of each text; None if it is an array of something else."""
    types = import_module("pyarrow.types")
    kind = array.type
    texts = (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    if not any(is_text(kind) for is_text in texts):
        return None
    return import_module("pyarrow.compute").binary_length(array).cast("int64")


def _repeated_texts(schema: Any) -> list[str]:
    """The columns of texts in lists, which are kept as references to their dictionary: written out, one text may be there a million
    times."""
    columns = (schema.column(number) for number in range(len(schema)))
    return [column.path for column in columns if column.max_repetition_level and column.physical_type == "BYTE_ARRAY"]


@contextmanager
def open_table(path: Path) -> Iterator[ArrowTable]:
    """The rows of a `.parquet` or `.arrow` file.

    Raises:
        DataError: pyarrow is missing, or the file is not whole; also while its rows are read.
    """
    form = _FORMATS[path.suffix.lower()]
    try:
        pyarrow = import_module("pyarrow")  # an optional dependency
        module = import_module("pyarrow.parquet" if form == "Parquet" else "pyarrow.ipc")
    except ImportError as error:
        raise DataError(f"{path}: reading {form} needs pyarrow", where=str(path), fix="pip install 'omnictl[parquet]'") from error
    with open_bytes(path):  # a pipe would block
        pass
    try:
        if form == "Parquet":
            metadata = module.read_metadata(path)
            options = {"metadata": metadata, "read_dictionary": _repeated_texts(metadata.schema)}
            with module.ParquetFile(path, pre_buffer=False, buffer_size=MIB, **options) as file:
                yield ArrowTable(path, file, file.schema_arrow)
        else:
            with pyarrow.memory_map(str(path)) as file:
                check_batches(path, module.MessageReader.open_stream(file))
            with pyarrow.memory_map(str(path)) as file, module.open_stream(file) as stream:
                yield ArrowTable(path, stream, stream.schema)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole {form} file: {error}", where=str(path), fix="write or download it anew") from error
