import itertools
import json
import sys
from collections import Counter

import pyarrow
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError

SPLITS = ("train", "val", "test")


def opened(path, **fields):
    return open_corpus(TextDataConfig(source=str(path), **fields))


def splits_of(corpus):
    return {split: list(corpus.documents(split)) for split in SPLITS}


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def error_of(path, split="train", **fields):
    with pytest.raises(DataError) as error:
        list(opened(path, **fields).documents(split))
    return error.value


# Splits


def test_prose_is_cut_by_position(tmp_path):
    path = tmp_path / "book.txt"
    text = "".join(chr(97 + i % 26) for i in range(1000)) + "\n"
    path.write_text(text)
    splits = splits_of(opened(path))
    assert splits == {"train": [text[:900]], "val": [text[900:950]], "test": [text[950:]]}


def test_the_usual_shakespeare_split(tmp_path):
    path = tmp_path / "plays.txt"
    text = "Speak, speak.\n\nAll:\nNo more.\n\n\n\nSecond play.\n" * 5  # some documents, yet every character counts
    path.write_text(text)
    corpus = opened(path, val_fraction=0.1, test_fraction=0)
    cut = int(len(text) * 0.9)
    assert (list(corpus.documents("train")), list(corpus.documents("val"))) == ([text[:cut]], [text[cut:]])
    with pytest.raises(DataError, match=r"the test split of .* is empty"):
        corpus.documents("test")


def test_a_cut_by_position_keeps_files_apart(tmp_path):
    for name, letter in (("a.txt", "a"), ("b.txt", "b")):
        (tmp_path / name).write_text(letter * 50)
    assert splits_of(opened(tmp_path)) == {"train": ["a" * 50, "b" * 40], "val": ["b" * 5], "test": ["b" * 5]}


def test_many_documents_are_split_by_hash_with_their_copies(tmp_path):
    texts = [f"document {i % 200}" for i in range(600)]
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    splits = splits_of(opened(path))
    assert Counter(text for part in splits.values() for text in part) == Counter(texts)
    assert [len(set(splits[split])) for split in SPLITS] == [180, 10, 10]
    assert not set(splits["train"]) & set(splits["val"] + splits["test"])
    assert not set(splits["val"]) & set(splits["test"])


def test_the_split_by_hash_does_not_depend_on_the_order(tmp_path):
    rows = [{"text": f"document {i}"} for i in range(50)]
    one = splits_of(opened(write_jsonl(tmp_path / "one.jsonl", rows)))
    two = splits_of(opened(write_jsonl(tmp_path / "two.jsonl", rows[::-1])))
    assert {split: set(part) for split, part in one.items()} == {split: set(part) for split, part in two.items()}
    assert len(one["val"]) == len(one["test"]) == 2


def test_named_splits_are_respected_and_val_taken_from_train(tmp_path):
    rows = [{"text": f"document {i}", "split": "train"} for i in range(40)] + [{"text": "exam", "split": "test"}]
    splits = splits_of(opened(write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert splits["test"] == ["exam"]
    assert (len(splits["train"]), len(splits["val"])) == (38, 2)


def test_named_val_and_no_test(tmp_path):
    rows = [{"text": "a"}, {"text": "b", "split": "train"}, {"text": "c", "split": "val"}]
    corpus = opened(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert (list(corpus.documents("train")), list(corpus.documents("val"))) == (["a", "b"], ["c"])
    with pytest.raises(DataError, match=r"documents: train 2, val 1, test 0"):
        corpus.documents("test")


@pytest.mark.parametrize("text", ["First play.\n\n\n\nSecond.\n\n\n" + "Third play.\n" * 100, "Speak. " * 100])
def test_few_documents_beside_a_named_test_are_cut_by_position(tmp_path, text):
    """Three blocks, as of tiny Shakespeare, or one: by document, validation would have a third of the text, or all of it."""
    (tmp_path / "train.txt").write_text(text)
    (tmp_path / "test.txt").write_text("Exam.\n\n\nMore.\n")
    cut = int(len(text) * 0.95)
    assert splits_of(opened(tmp_path)) == {"train": [text[:cut]], "val": [text[cut:]], "test": ["Exam.\n\n\nMore.\n"]}


def test_few_documents_beside_a_named_validation(tmp_path):
    (tmp_path / "val.txt").write_text("Check.")
    (tmp_path / "train.txt").write_text("a" * 100)
    assert list(opened(tmp_path).documents("train")) == ["a" * 100]
    splits = splits_of(opened(tmp_path, test_fraction=0.1))
    assert splits == {"train": ["a" * 90], "val": ["Check."], "test": ["a" * 10]}


def test_marks_are_never_text(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text("<|endoftext|>\n".join(["One.\n", "Two.\n\n\n\nMore.\n", "  \n", "Three. " * 20]))
    corpus = opened(path, val_fraction=0.1, test_fraction=0)
    assert list(corpus.documents("train"))[:2] == ["One.\n", "Two.\n\n\n\nMore.\n"]
    assert "".join(itertools.chain(corpus.documents("train"), corpus.documents("val"))) == path.read_text().replace(
        "<|endoftext|>\n", ""
    ).replace("  \n", "")


def test_nothing_to_train_on(tmp_path):
    (tmp_path / "test.txt").write_text("Exam.")
    error = error_of(tmp_path)
    assert error.message == f"the train split of {tmp_path} is empty (characters: train 0, val 0, test 5)"
    fix = "test.txt is the test split by its name: rename it, name the file itself instead of its folder, or give more text"
    assert error.fix == fix
    (tmp_path / "train.txt").write_text("x")
    assert error_of(tmp_path).fix == "give more text"


def test_a_split_that_would_be_empty(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("ten chars.")
    error = error_of(path, "val")
    assert error.message == f"the val split of {path} is empty (characters: train 9, val 0, test 1)"
    assert error.fix == "give more text, or --set data.val_fraction=0.1"


def test_fractions_must_leave_something_to_train_on():
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        TextDataConfig(val_fraction=0.5, test_fraction=0.5)


# Files


def test_documents_of_a_txt_stand_apart_by_two_blank_lines_or_a_mark(tmp_path):
    blocks = [f"Story {i}.\n\nIts second paragraph." for i in range(30)]
    for name, separator in (("gap.txt", "\n\n\n"), ("spaces.txt", "\n \n\t\n\n"), ("mark.txt", "\n<|endoftext|>\n")):
        path = tmp_path / name
        path.write_text(separator.join(blocks) + separator)
        splits = splits_of(opened(path))
        assert sorted(itertools.chain(*splits.values())) == sorted(blocks), name


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n\r\n".join(b"note %d" % i for i in range(25)))
    assert sorted(itertools.chain(*splits_of(opened(path)).values())) == sorted(f"note {i}" for i in range(25))


def test_a_folder_is_read_sorted_and_without_hidden_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "sub" / "b.jsonl").write_text('\n{"text": "second"}\n{"text": "  "}\n')
    (tmp_path / "a.TXT").write_text("first")
    parquet.write_table(pyarrow.table({"text": ["third", ""], "id": [1, 2]}), tmp_path / "sub" / "c.parquet")
    for hidden in (".x.txt", ".cache/y.txt", "readme.md"):
        (tmp_path / hidden).write_text("no")
    corpus = opened(tmp_path, val_fraction=0, test_fraction=0)
    assert list(corpus.documents("train")) == ["first", "second", "third"]
    assert not corpus.markup


def test_fingerprint_follows_content_and_split(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("some text")
    first = opened(path).fingerprint
    (tmp_path / "b.txt").write_text("some text")
    assert opened(tmp_path / "b.txt").fingerprint == first
    assert opened(path, val_fraction=0.1).fingerprint != first
    path.write_text("some texT")
    assert opened(path).fingerprint != first


def test_parquet_rows_name_their_split(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], "split": ["train", "val", "test"]}), path)
    assert splits_of(opened(path)) == {"train": ["a"], "val": ["b"], "test": ["c"]}


# Errors


def test_missing_file(tmp_path):
    error = error_of(tmp_path / "none.txt")
    assert error.message == f"no such file or folder: {tmp_path / 'none.txt'}"
    assert error.fix == "check the path given to --data"


@pytest.mark.parametrize("content", ["", " \n\n \n\n\n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_text(content)
    assert error_of(path).message == f"{path} is empty: no text in it"


def test_folder_without_text(tmp_path):
    (tmp_path / "image.png").write_bytes(b"x")
    assert error_of(tmp_path).message == f"{tmp_path} has no .arrow, .json, .jsonl, .parquet, .txt file"


def test_unknown_suffix(tmp_path):
    path = tmp_path / "book.pdf"
    path.write_bytes(b"%PDF")
    assert error_of(path).message == f"{path} is not one of .arrow, .json, .jsonl, .parquet, .txt"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"good\nbad \0 line", "a NUL byte at offset 9"),
        (b"good\ncaf\xe9 line", "byte 0xe9 at offset 8"),
        ("good\nlines".encode("utf-16-le"), "a NUL byte at offset 1"),
    ],
)
def test_binary_file(tmp_path, content, found):
    path = tmp_path / "binary.txt"
    path.write_bytes(content)
    error = error_of(path)
    assert error.message == f"{path} is not UTF-8 text: {found}"
    assert error.where == f"{path}:{1 + content[: int(found.split()[-1])].count(10)}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "broken JSON: Expecting ',' delimiter"),
        ("[" * 100_000, "broken JSON: "),
        ('["a"]', "an object was expected, found a list"),
        ('{"txt": "a", "id": 1}', "no key 'text' (found 'txt', 'id')"),
        ('{"text": 5}', "'text' should be a string, found a number"),
        ('{"text": null}', "'text' should be a string, found null"),
        ('{"text": "a\\ud800"}', "'text' holds half a character (a lone surrogate) at position 1"),
        ('{"text": "a", "split": "dev"}', "'split' is 'dev'"),
    ],
)
def test_broken_jsonl_line(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n\n' + line + "\n")
    error = error_of(path)
    assert error.message.startswith(message)
    assert error.where == f"{path}:3"
    assert error.fix


def test_broken_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 not really")
    assert error_of(path).message.startswith(f"{path} is not a whole Parquet file")
    parquet.write_table(pyarrow.table({"content": ["a"]}), path)
    assert error_of(path).message == "no column 'text' (found 'content')"
    parquet.write_table(pyarrow.table({"text": ["a", None]}), path)
    error = error_of(path)
    assert (error.message, error.where) == ("'text' should be a string, found null", f"{path}: row 2")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    error = error_of(path)
    assert error.message == f"{path}: reading Parquet needs pyarrow"
    assert error.fix == "pip install 'omnictl[parquet]'"


def test_unreadable_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    corpus = opened(path)
    path.unlink()
    path.mkdir()  # what even root cannot read as a file
    with pytest.raises(DataError, match=r"cannot read .*a\.txt: Is a directory"):
        _ = corpus.fingerprint


# TinyWorld


def test_tinyworld_draws_as_many_documents_as_asked():
    corpus = open_corpus(TextDataConfig(num_documents=12, num_eval_documents=5))
    splits = splits_of(corpus)
    assert [len(splits[split]) for split in SPLITS] == [12, 5, 5]
    assert splits == splits_of(corpus)
    assert corpus.markup


def test_tinyworld_seeds_are_other_draws():
    first, second = (open_corpus(TextDataConfig(source=source)) for source in ("tinyworld", "tinyworld:7"))
    assert first.fingerprint != second.fingerprint
    assert (first.name, second.name) == ("tinyworld", "tinyworld:7")
    assert next(first.documents("train")) != next(second.documents("train"))


@pytest.mark.parametrize("seed", ["", "x", "-1", "1.5"])
def test_bad_tinyworld_seed(seed):
    error = error_of(f"tinyworld:{seed}")
    assert error.message == f"the seed of tinyworld should be a whole number from 0 up, found {seed!r}"
    assert error.fix == "--data tinyworld:7"


def test_misspelt_tinyworld():
    assert error_of("tinywrld").fix == "did you mean --data tinyworld?"
    assert error_of("TinyWorld:3").fix == "did you mean --data tinyworld:3?"
