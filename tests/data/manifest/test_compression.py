import gzip
import sys
from pathlib import PurePath

import pytest

from omnictl.data.manifest.compression import open_plain, plain_suffix
from omnictl.errors import DataError

zstandard = pytest.importorskip("zstandard")

LINES = b"".join(b"line %d\n" % number for number in range(5_000))


def read(path):
    with open_plain(path) as file:
        return b"".join(file)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jsonl.gz", ".jsonl"),
        ("A.JSONL.GZ", ".jsonl"),
        ("c4.00001-of-2.json.zst", ".json"),
        ("a.txt", ".txt"),
        ("a.gz", ""),
        ("a", ""),
    ],
)
def test_plain_suffix(name, suffix):
    assert plain_suffix(PurePath(name)) == suffix


def test_what_is_read_is_what_was_written(tmp_path):
    contents = {
        "plain.txt": LINES,
        "a.gz": gzip.compress(LINES),
        "two_members.gz": gzip.compress(LINES[:100]) + gzip.compress(LINES[100:]),
        "a.zst": zstandard.compress(LINES),
        "two_frames.zst": zstandard.compress(LINES[:100]) + zstandard.compress(LINES[100:]),
        "a.unknown": LINES,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == LINES, name


@pytest.mark.parametrize("name", ["a.gz", "a.zst"])
@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[: len(data) // 2], lambda data: b"<html>" * 9])
def test_what_is_cut_off_or_something_else_is_an_error(tmp_path, name, damage):
    compress = {"a.gz": gzip.compress, "a.zst": zstandard.compress}[name]
    path = tmp_path / name
    path.write_bytes(damage(compress(LINES)))
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.message.startswith(f"{path} cannot be decompressed to its end: ")
    assert error.value.fix == f"download it anew; if it is not compressed at all, rename it without {path.suffix} (a)"


def test_zstandard_is_an_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.message == f"{path}: reading Zstandard needs the package zstandard"
    assert error.value.fix == "pip install 'omnictl[zstd]', or decompress it (zstd -d a.jsonl.zst)"


def test_a_stream_that_expands_a_thousandfold_is_read_in_pieces(tmp_path):
    path = tmp_path / "bomb.zst"
    path.write_bytes(zstandard.compress(bytes(200 << 20)))
    with open_plain(path) as file:
        assert file.read(100) == bytes(100)
