"""Rows of Parquet files and of the Arrow files of Hugging Face's `Dataset.save_to_disk`, a few at a time.

What the columns mean beyond their types (an image, a class by number) stands in the schema, where `datasets` writes its features.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from omnictl.data.manifest.compression import open_bytes
from omnictl.errors import DataError

TABLE_SUFFIXES = (".parquet", ".arrow")
_FORMATS = {".parquet": "Parquet", ".arrow": "Arrow"}
_HF = b"huggingface"


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
            batches: Iterator[Any] = self._source.iter_batches(batch_size=num_rows, columns=list(columns))
        else:
            batches = self._source
        for batch in batches:
            chosen = batch.select(list(columns))
            for start in range(0, chosen.num_rows, num_rows):
                yield from chosen.slice(start, num_rows).to_pylist()


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
            with module.ParquetFile(path, pre_buffer=False) as file:
                yield ArrowTable(path, file, file.schema_arrow)
        else:
            with pyarrow.memory_map(str(path)) as file, module.open_stream(file) as stream:
                yield ArrowTable(path, stream, stream.schema)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole {form} file: {error}", where=str(path), fix="write or download it anew") from error
