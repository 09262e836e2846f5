import gzip
import json
import logging

import pytest

from omnictl.config.split import SPLITS
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError

zstandard = pytest.importorskip("zstandard")


def rows(*texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def documents(path, split="train"):
    return list(open_corpus(TextDataConfig(source=str(path), val_fraction=0, test_fraction=0)).documents(split))


def shown(value):
    """What names a test: no compressed bytes, which hold the time, so that no two processes would collect the same tests."""
    return "content" if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(rows("one", "two"))),
        ("c4-train.00000.json.gz", gzip.compress(rows("one", "two"))),
        ("a.jsonl.zst", zstandard.compress(rows("one", "two"))),
        ("a.txt.gz", gzip.compress(b"one\n\n\ntwo")),
        ("a.txt.zst", zstandard.compress(b"one\n\n\ntwo")),
        ("a.json", json.dumps([{"text": "one"}, {"text": "two"}], indent=1).encode()),
        ("a.txt", "one\r\n\r\n\r\ntwo".encode("utf-16")),
    ],
    ids=shown,
)
def test_text_as_it_is_stored(tmp_path, name, content):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_bytes(content)
    assert "".join(documents(path)).split() in (["one", "two"], ["onetwo"])
    assert documents(path) == documents(path.parent)


def test_names_of_files_and_folders_say_the_split(tmp_path):
    for split, name in {"train": "train.jsonl", "val": "validation.jsonl.gz", "test": "test/deep/part1.jsonl"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        content = rows(*(f"{split} {number}" for number in range(5)))
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    corpus = open_corpus(TextDataConfig(source=str(tmp_path)))
    for split in SPLITS:
        assert [text.split()[0] for text in corpus.documents(split)] == [split] * 5
    before = corpus.fingerprint
    (tmp_path / "train.jsonl").rename(tmp_path / "test.jsonl")
    assert open_corpus(TextDataConfig(source=str(tmp_path))).fingerprint != before


def test_a_row_may_say_another_split_than_its_file(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(rows("a") + b'{"text": "b", "split": "test"}\n')
    (tmp_path / "more.txt").write_text("c")
    corpus = open_corpus(TextDataConfig(source=str(tmp_path), val_fraction=0))
    assert (list(corpus.documents("train")), list(corpus.documents("test"))) == (["c", "a"], ["b"])


def test_what_is_passed_over_is_named(tmp_path, caplog):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows("one")))
    for name in ("README.txt", "cover.png", "notes.pdf", "config.json", ".hidden.pdf"):
        (tmp_path / name).write_text('{"name": "x"}')
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert documents(tmp_path) == ["one"]
    assert caplog.messages[0] == (
        f"{tmp_path}: 4 files are passed over as no text of the corpus (1 .txt, 1 .json, 1 .png, 1 .pdf): "
        "README.txt, config.json, cover.png and 1 more"
    )


def test_keys_that_are_not_read_are_named(tmp_path, caplog):
    pyarrow = pytest.importorskip("pyarrow")
    lines = [{"text": "one", "image": "a.png", "url": ""}, {"text": "two", "image": "b.png", "split": "train", "id": 0}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["three"], "id": [1]}), tmp_path / "b.parquet")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert documents(tmp_path) == ["one", "two", "three"]
    assert caplog.messages == [f"{tmp_path}: columns or keys that are not read: 'image' (2), 'id' (2)"]


def test_a_readme_alone_is_a_text(tmp_path):
    (tmp_path / "README.txt").write_text("one")
    assert documents(tmp_path) == ["one"]


def test_folders_that_are_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("one")
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    assert documents(folder) == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", gzip.compress(rows("one"))[:-6], "cannot be decompressed to its end"),
        ("a.jsonl.gz", gzip.compress(rows("one") + b'{"txt": 1}\n'), "no key 'text' (found 'txt')"),
        ("a.txt", "one".encode("utf-16") + b"\x00", "is not UTF-8 text: broken UTF-16"),
        ("a.json", b'[{"text": "one"},\n{"text": 2}]', "'text' should be a string, found a number"),
    ],
    ids=shown,
)
def test_flaws_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        documents(path)
    assert message in error.value.message
    assert error.value.where.startswith(str(path))


def test_what_datasets_keeps_of_earlier_steps_is_passed_over(tmp_path, caplog):
    pyarrow = pytest.importorskip("pyarrow")
    for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
        rows = pyarrow.table({"text": ["one"]})
        with pyarrow.OSFile(str(tmp_path / name), "wb") as file, pyarrow.ipc.new_stream(file, rows.schema) as stream:
            stream.write_table(rows)
    (tmp_path / "state.json").write_text("{}")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert documents(tmp_path) == ["one"]
    assert "cache-0123456789abcdef.arrow" in caplog.messages[0]
