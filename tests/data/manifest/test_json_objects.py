import gzip
import json

import pytest

from omnictl.data.manifest import json_objects
from omnictl.data.manifest.json_objects import read_json_values
from omnictl.errors import DataError

VALUES = [{"a": "é😀\n", "b": [1, 2, {"c": None}]}, 12345, True, "x" * 40, -1.5e10, {}]


@pytest.mark.parametrize("size", [2, 3, 7, 50, 1 << 20])
def test_a_list_and_a_sequence_are_read_in_pieces_of_any_size(tmp_path, monkeypatch, size):
    monkeypatch.setattr(json_objects, "_PIECE", size)
    path = tmp_path / "a.json"
    for text in (
        json.dumps(VALUES, indent=1),
        json.dumps(VALUES),
        "\n".join(map(json.dumps, VALUES)),
        json.dumps(VALUES, ensure_ascii=False),
    ):
        path.write_text(text, encoding="utf-8")
        assert [value.value for value in read_json_values(path, "")] == VALUES


def test_each_object_has_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[\n {"a":\n 1},\n\n {"a": 2}, {"a": 3}\n]\n')
    assert [value.where for value in read_json_values(path, "")] == [f"{path}:2", f"{path}:5", f"{path}:5"]


def test_a_compressed_list_and_one_with_a_byte_order_mark(tmp_path):
    packed, marked = tmp_path / "a.json.gz", tmp_path / "a.json"
    packed.write_bytes(gzip.compress(json.dumps(VALUES).encode()))
    marked.write_bytes(json.dumps(VALUES).encode("utf-8-sig"))
    for path in (packed, marked):
        assert [value.value for value in read_json_values(path, "")] == VALUES


def test_a_broken_line_does_not_hide_the_next(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a"\n{"a": 2}\n')
    first, second, third = read_json_values(path, "")
    assert (first.value, third.value) == ({"a": 1}, {"a": 2})
    assert (second.where, second.value) == (f"{path}:2", None)
    assert second.flaw.startswith("broken JSON: ")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('[{"a": 1},\n{"a": 2', 2, "broken JSON: Expecting ',' delimiter"),
        ('[{"a": 1},\n{"a": 2}', 2, "broken JSON: the list does not end: the file is cut off"),
        ('[{"a": 1},\n{"a" 2}]', 2, "broken JSON: Expecting ':' delimiter"),
        ('[{"a": 1}]\n]', 2, "broken JSON: found ']' behind the end of the list"),
        ('[{"a": "x]', 1, "broken JSON: Unterminated string starting at"),
        ("[" + "[" * 100_000, 1, "broken JSON: nested too deeply"),
    ],
)
def test_a_broken_list(tmp_path, text, line, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        list(read_json_values(path, ""))
    assert (error.value.message, error.value.where) == (message, f"{path}:{line}")
    assert error.value.fix == "mend the file there, or download it anew"


def test_an_object_may_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(json_objects, "MAX_CHARACTERS", 1000)
    monkeypatch.setattr(json_objects, "_PIECE", 100)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": "x" * 3000}]))
    with pytest.raises(DataError, match="an object of more than"):
        list(read_json_values(path, ""))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_empty_files_and_other_encodings(tmp_path, name):
    path = tmp_path / name
    path.write_text(" \n")
    with pytest.raises(DataError, match="is empty") as error:
        list(read_json_values(path, "write something"))
    assert error.value.fix == "write something"
    path.write_bytes(b'{"a": "caf\xe9"}')
    with pytest.raises(DataError, match="is not UTF-8 text: byte 0xe9"):
        list(read_json_values(path, ""))
    path.write_text('{"a": "café"}', encoding="utf-16")
    assert next(read_json_values(path, "")).value == {"a": "café"}
