import gzip

import pytest

from omnictl.data.manifest.tables import csv_records, find_delimiter, read_lines
from omnictl.data.speech.manifest import read_manifest
from omnictl.errors import DataError

ROWS = [("audio", "text", "split"), ("a.wav", "Yes, I do; really.", "train"), ("b.wav", 'He said "no".', "test")]


def quoted(field):
    return '"' + field.replace('"', '""') + '"' if any(mark in field for mark in ',;"\t') else field


def table(delimiter, end="\n"):
    return end.join(delimiter.join(map(quoted, row)) for row in ROWS) + end


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_programs_write_them(tmp_path, delimiter, end, encoding):
    path = tmp_path / "metadata.csv"
    path.write_bytes(table(delimiter, end).encode(encoding))
    assert [tuple(fields) for _, fields in csv_records(path, "")] == ROWS
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    manifest = read_manifest(path)
    assert [(row.id, row.text, row.split, row.where) for row in manifest.rows] == [
        (name, text, split, f"{path}:{line}") for line, (name, text, split) in enumerate(ROWS[1:], start=2)
    ]


@pytest.mark.parametrize("name", ["metadata.tsv", "metadata.csv.gz", "rows.jsonl.gz"])
def test_other_names_of_manifests(tmp_path, name):
    (tmp_path / "a.wav").touch()
    content = b'{"audio": "a.wav", "text": "Yes."}' if "jsonl" in name else b"audio\ttext\na.wav\tYes.\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [row.text for row in read_manifest(tmp_path / name).rows] == ["Yes."]


def test_between_tabs_quotes_are_letters_unless_around_a_field(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('audio\ttext\na\t"Quoted, he said.\nb\t"all ""of"" it"\nc\t"one" and "two"\n')
    assert [fields[1] for _, fields in csv_records(path, "")][1:] == ['"Quoted, he said.', 'all "of" it', '"one" and "two"']


def test_a_row_with_a_field_too_many_is_named(tmp_path):
    (tmp_path / "a.wav").touch()
    path = tmp_path / "a.csv"
    path.write_text("audio;text\na.wav;Yes.\na.wav;Yes; no.\n")
    (broken,) = read_manifest(path).broken
    assert broken.where == f"{path}:3"
    assert broken.message == "found 3 fields, expected the 2 of the header: put quotes around a field that holds a separator"


@pytest.mark.parametrize(
    ("header", "delimiter"), [("audio", ","), ("a,b;c,d", ","), ("a;b", ";"), ("a\tb", "\t"), ("a, b", ","), ("a|b", ",")]
)
def test_delimiters(header, delimiter):
    assert find_delimiter(header) == delimiter


def test_lines_that_are_not_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\ntwo\n".encode("utf-16-le").replace(b"o", b"\xe9"))
    with pytest.raises(DataError) as error:
        list(read_lines(path, ""))
    assert error.value.fix == "convert it to UTF-8 (`iconv -f utf-16 -t utf-8`)"
