"""Files of a few kilobytes that would unpack to gigabytes are refused by name before they do."""

import io
import json
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from omnictl.data.packed import arrow_batches, arrow_tables, parquet_pages, webdataset
from omnictl.data.packed.arrow_tables import open_table
from omnictl.data.packed.webdataset import read_tar
from omnictl.errors import DataError

MIB = 2**20


def rows(path: Path, at_once: int = 64) -> list[dict[str, Any]]:
    with open_table(path) as table:
        return list(table.rows(at_once, table.columns))


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        rows(path)
    return caught.value


def reference(text: str, count: int) -> Any:
    """So many times the same text, as references to it."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array([text]))


def write_stream(path: Path, made: Any, compression: str | None = None) -> Path:
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, made.schema, options=options) as stream:
        stream.write_table(made)
    return path


TURNS = [[{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "yes"}] for n in range(300)]

HONEST = {
    "text": [f"text {n}" for n in range(300)],
    "messages": TURNS,
    "number": [*range(299), None],
    "bytes": [b"\0\1"] * 300,
}


SMALL_PAGES = {"compression": "zstd", "data_page_size": 100, "row_group_size": 70, "data_page_version": "2.0"}


@pytest.mark.parametrize(
    "options", [{}, SMALL_PAGES, {"dictionary_pagesize_limit": 64, "data_page_size": 64, "write_batch_size": 8}]
)
def test_honest_files_are_read_as_they_are(tmp_path: Path, options: dict[str, Any]) -> None:
    made = pyarrow.table(HONEST)
    parquet.write_table(made, tmp_path / "a.parquet", **options)
    assert rows(tmp_path / "a.parquet") == made.to_pylist()
    for compression in (None, "zstd", "lz4"):
        assert rows(write_stream(tmp_path / "a.arrow", made, compression)) == made.to_pylist()


def test_the_largest_page_is_what_arrow_will_unpack(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": ["x" * 1000] * 3, "b": ["y"] * 3}), path, use_dictionary=False, compression="zstd")
    metadata = parquet.read_metadata(path)
    assert parquet_pages.check_pages(path, metadata, ["a", "b"]) == pytest.approx(3 * 1004, abs=20)
    assert parquet_pages.check_pages(path, metadata, ["b"]) < 50


def test_a_page_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a" * (65 * MIB)]}), path, use_dictionary=False, compression="zstd")
    assert path.stat().st_size < 20_000
    error = refused(path)
    assert f"{path}: a page of " in error.message
    assert "in row group 1, column 'text' would unpack to 68,157," in error.message
    assert "above 64 MiB no more than 100 times what is stored" in error.message
    assert "data_page_size" in error.fix


def test_no_page_is_larger_than_the_bound_whatever_it_packs_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["abc" * 1000]}), path, use_dictionary=False, compression="none")
    assert len(rows(path)) == 1
    monkeypatch.setattr(parquet_pages, "LARGEST_PAGE", 2_999)
    assert "would unpack to 3,0" in refused(path).message


def test_large_values_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": reference("a" * 1000, 50)}), path)
    assert parquet.read_metadata(path).row_group(0).total_byte_size < 4_000
    monkeypatch.setattr(arrow_tables, "MOST_BYTES", 10_500)
    seen: list[int] = []
    check = arrow_tables.ArrowTable._check_size
    monkeypatch.setattr(
        arrow_tables.ArrowTable, "_check_size", lambda self, rows, first: (seen.append(len(rows)), check(self, rows, first))
    )
    assert rows(path) == [{"text": "a" * 1000}] * 50
    assert seen == [10] * 5


@pytest.mark.parametrize("write", [parquet.write_table, lambda made, path: write_stream(path, made)])
def test_lists_of_one_long_text_are_not_written_out(tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred megabytes of references to a text of ten kilobytes would be a terabyte."""
    monkeypatch.setattr(arrow_tables, "LARGEST_ROWS", 20 * MIB)
    made = pyarrow.table(
        {"messages": pyarrow.ListArray.from_arrays(pyarrow.array([0, 1, 3_001], pyarrow.int32()), reference("a" * 10_000, 3_001))}
    )
    path = tmp_path / ("a.parquet" if write is parquet.write_table else "a.arrow")
    write(made, path)
    error = refused(path)
    assert error.message.startswith(f"{path}: rows 1 to 2 take 30,0")
    assert error.where == f"{path}: row 1"
    monkeypatch.setattr(arrow_tables, "LARGEST_ROWS", 40 * MIB)
    assert [len(row["messages"]) for row in rows(path)] == [1, 3_000]


def test_a_list_of_nothing_takes_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_tables, "LARGEST_ROWS", 7_000)
    made = pyarrow.table({"x": pyarrow.ListArray.from_arrays(pyarrow.array([0, 1000], pyarrow.int32()), pyarrow.nulls(1000))})
    assert "rows 1 to 1 take 8,008 bytes" in refused(write_stream(tmp_path / "a.arrow", made)).message


def test_the_values_of_lists_are_counted_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "MOST_VALUES", 599)
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(HONEST), path)
    assert "column 'messages.list.element.role' has 600 values in its lists; at most 599" in refused(path).message


def test_a_compressed_batch_says_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_stream(tmp_path / "a.arrow", pyarrow.table({"text": ["a" * 100_000]}), "zstd")
    assert path.stat().st_size < 2_000
    monkeypatch.setattr(arrow_batches, "LARGEST_BATCH", 99_999)
    assert "record batch 1 would unpack to 100,008 bytes" in refused(path).message


@pytest.mark.parametrize("damage", ["cut", "deep", "deep lists", "endless"])
def test_broken_page_headers_are_named(tmp_path: Path, damage: str) -> None:
    headers = {"cut": b"\x15", "deep": b"\x1c" * 40, "deep lists": b"\x19" * 40, "endless": b"\x15" + b"\xff" * 20}
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a" * 200]}), path, use_dictionary=False, compression="none")
    data = bytearray(path.read_bytes())
    data[4 : 4 + len(headers[damage])] = headers[damage]
    path.write_bytes(data)
    if damage != "cut":
        assert "column 'text' has a broken page" in refused(path).message
    header = parquet_pages._Header(io.BytesIO(headers[damage]))
    with pytest.raises(ValueError, match=r"cut off|too deep|does not end"):
        header.whole_numbers(3)


def test_all_kinds_of_fields_are_passed_over() -> None:
    """As Thrift's compact protocol has them: a list of structs, a map, a double, a byte, texts, booleans, then a field far away."""
    fields = (
        b"\x15\x04"  # 1: whole number 2
        b"\x15\x80\x02"  # 2: 128
        b"\x15\x10"  # 3: 8
        b"\x19\x2c\x11\x00\x12\x00"  # 4: list of two structs with a boolean each
        b"\x1b\x01\x58\x06\x01x"  # 5: map of one whole number to a text
        b"\x17" + struct.pack("<d", 0.5) + b"\x13\x07\x18\x02ab"  # 6: double, 7: byte, 8: text
        b"\x05\xc8\x01\x02"  # 100: whole number 1
        b"\x00"
    )
    file = io.BytesIO(fields + b"rest")
    assert parquet_pages._Header(file).whole_numbers(3) == {1: 2, 2: 128, 3: 8}
    assert file.read() == b"rest"


def test_the_files_of_a_sample_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("1.png", "1.a.png", "2.png"):
            member = tarfile.TarInfo(name)
            member.size = 80
            tar.addfile(member, io.BytesIO(bytes(80)))
    assert [len(row.fields) for row in read_tar(path, path)] == [1, 1]
    monkeypatch.setattr(webdataset, "MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"the sample of 1.a.png has 160 bytes; at most 100 were expected"):
        list(read_tar(path, path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_has_no_gigabytes(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    member = tarfile.TarInfo("1.png")
    member.type, member.size = kind, 2**33
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match=r"a header of 8,589,934,592 bytes, at most 1,048,576 were expected"):
        list(read_tar(path, path))


BOMBS = {
    "values": {"text": pyarrow.array(["a" * (4 * MIB)] * 16)},
    "references": {"text": reference("a" * (8 * MIB), 200)},
}


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bombs")
    for name, columns in BOMBS.items():
        parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet", compression="zstd")
    return folder


@pytest.mark.faults
@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_bounded_where_rows_are_streamed(bombs: Path, name: str) -> None:
    """1.6 GB of references to one text, and 64 MB of texts that pack to nothing: read whole, in less than 512 MiB."""
    script = (
        "import json, resource, sys; from pathlib import Path\n"
        "from omnictl.data.packed.arrow_tables import open_table\n"
        "import pyarrow.parquet, pyarrow.compute\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\n"
        "with open_table(Path(sys.argv[1])) as table:\n"
        "    count = sum(1 for row in table.rows(64, table.columns))\n"
        "print(json.dumps([count, peak() - before]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, bombs / f"{name}.parquet"], capture_output=True, text=True, check=True)
    count, mebibytes = json.loads(done.stdout)
    assert count == len(BOMBS[name]["text"])
    assert mebibytes < 512
