"""How much memory and time it takes to open a packed corpus: rows of small images in Parquet or in a tar, unpacked into the cache.

    python tests/benchmarks/packed_rows.py parquet 100000
    python tests/benchmarks/packed_rows.py tar 100000

prints one JSON object: rows, the peak of the resident memory in MB of a fresh process that opens them, that of one that only
imports what is needed, and seconds.
"""

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LABELS = ("cat", "dog", "frog")
ROWS_AT_ONCE = 1_000

READ = """
import json, resource, sys
from pathlib import Path
from omnictl.data.images.layouts import find_images
count = len(find_images(Path(sys.argv[1])).rows) if len(sys.argv) > 1 else 0
print(json.dumps([count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))
"""


def images(count: int) -> Iterator[tuple[bytes, str]]:
    """PNG files of 32 pixels a side, no two alike, and their labels."""
    from PIL import Image

    chance = random.Random(0)
    for number in range(count):
        file = io.BytesIO()
        Image.frombytes("RGB", (32, 32), chance.randbytes(3 * 32 * 32)).save(file, "png", compress_level=0)
        yield file.getvalue(), LABELS[number % len(LABELS)]


def write_parquet(path: Path, count: int) -> None:
    """In row groups of `ROWS_AT_ONCE`."""
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", kind), ("label", pyarrow.string())])
    rows = images(count)
    with parquet.ParquetWriter(path, schema) as writer:
        for begin in range(0, count, ROWS_AT_ONCE):
            some = [next(rows) for _ in range(min(ROWS_AT_ONCE, count - begin))]
            made = {"image": [{"bytes": data, "path": None} for data, _ in some], "label": [label for _, label in some]}
            writer.write_table(pyarrow.table(made, schema=schema))


def write_tar(path: Path, count: int) -> None:
    """A sample for each image: `.png` and `.cls`."""
    with tarfile.open(path, "w") as tar:
        for number, (data, label) in enumerate(images(count)):
            for suffix, content in (("png", data), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{number:07}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def read(cache: Path, *arguments: str) -> tuple[int, float]:
    """Rows that a fresh process reads, and its peak in MB."""
    environment = {**os.environ, "OMNICTL_CACHE": str(cache)}
    ended = subprocess.run([sys.executable, "-c", READ, *arguments], env=environment, capture_output=True, check=True)
    count, peak = json.loads(ended.stdout.splitlines()[-1])
    return count, peak


def measure(kind: str, count: int, folder: Path) -> dict[str, object]:
    """Write a corpus and open it.

    Args:
        kind: `parquet` or `tar`.
        count: rows.
        folder: for the corpus and the cache.
    """
    path = folder / f"a.{kind}"
    (write_parquet if kind == "parquet" else write_tar)(path, count)
    _, idle = read(folder / "cache")
    began = time.monotonic()
    rows, peak = read(folder / "cache", str(path))
    return {"kind": kind, "rows": rows, "peak_mb": peak, "idle_mb": idle, "seconds": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(folder))))
