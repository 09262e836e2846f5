import errno
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pytest

from omnictl.data.manifest.cache import cache_dir
from omnictl.data.text.token_store import open_store
from omnictl.data.text.tokenizer import END, IM_START, Tokenizer
from omnictl.errors import DataError, DiskFull

DOCUMENTS = ["The café is small.", "Two dogs.", "", "<|im_start|>user"]


@dataclass
class Documents:
    """A corpus that counts how often it is read."""

    texts: list[str]
    markup: bool = False
    name: str = "here"
    fingerprint: str = "f" * 64
    num_reads: int = 0

    def documents(self, split):
        self.num_reads += 1
        return iter(self.texts)


@pytest.fixture
def corpus():
    return Documents(DOCUMENTS)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train_bpe(DOCUMENTS, 264)


def names_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock" and path.name != "tokens")


def test_documents_come_back(corpus, tokenizer, tmp_path):
    store = open_store(corpus, "train", tokenizer, tmp_path)
    assert isinstance(store.tokens, np.memmap)
    assert store.tokens.dtype == np.uint16
    assert store.tokens[0] == END
    pairs = zip(store.bounds[:-1], store.bounds[1:], strict=True)
    documents = [store.tokens[start:stop].tolist() for start, stop in pairs]
    assert all(document[-1] == END for document in documents)
    assert [tokenizer.decode(document[:-1]) for document in documents] == DOCUMENTS
    assert store.num_documents == 4
    assert store.num_bytes == sum(len(text.encode()) for text in DOCUMENTS)
    assert store.num_predictions == sum(len(tokenizer.encode(text, markup=False)) + 1 for text in DOCUMENTS)


def test_special_tokens_only_where_the_corpus_means_them(tokenizer, tmp_path):
    plain = open_store(Documents(DOCUMENTS), "train", tokenizer, tmp_path / "plain")
    marked = open_store(Documents(DOCUMENTS, markup=True), "train", tokenizer, tmp_path / "marked")
    assert IM_START not in plain.tokens
    assert np.count_nonzero(marked.tokens == IM_START) == 1


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    tokenizer = Tokenizer.train_char(chr(0x10000 + i) for i in range(70_000))
    last = chr(0x10000 + 69_999)
    store = open_store(Documents([last]), "train", tokenizer, tmp_path)
    assert store.tokens.dtype == np.uint32
    assert store.tokens.tolist() == [END, 70_007, END]


@pytest.mark.slow
def test_long_documents_are_encoded_in_pieces_but_stored_whole(tokenizer, tmp_path):
    text = "Two small dogs.\n" * 80_000
    store = open_store(Documents(["short", text, "short"]), "train", tokenizer, tmp_path)
    assert store.tokens[store.bounds[1] : store.bounds[2] - 1].tolist() == tokenizer.encode(text, markup=False)
    assert store.num_documents == 3
    assert store.num_bytes == len(text) + 10


def test_a_second_open_reads_the_cache(corpus, tokenizer, tmp_path):
    first = open_store(corpus, "train", tokenizer, tmp_path)
    second = open_store(corpus, "train", tokenizer, tmp_path)
    assert corpus.num_reads == 1
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.bounds, second.bounds)
    assert first.num_bytes == second.num_bytes


def test_other_splits_corpora_and_tokenizers_have_their_own(corpus, tokenizer, tmp_path):
    open_store(corpus, "train", tokenizer, tmp_path)
    open_store(corpus, "val", tokenizer, tmp_path)
    open_store(corpus, "train", Tokenizer.train_char(DOCUMENTS), tmp_path)
    corpus.fingerprint = "e" * 64
    open_store(corpus, "train", tokenizer, tmp_path)
    assert corpus.num_reads == 4


def truncate(folder):
    with (folder / "tokens.bin").open("r+b") as file:
        file.truncate(5)


def forget_bounds(folder):
    (folder / "bounds.bin").unlink()


def break_meta(folder):
    (folder / "meta.json").write_text("{")


def age(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 0}))


@pytest.mark.parametrize("damage", [truncate, forget_bounds, break_meta, age])
def test_a_damaged_store_is_built_again(corpus, tokenizer, tmp_path, damage):
    expected = open_store(corpus, "train", tokenizer, tmp_path).tokens.tolist()
    damage(next(path.parent for path in tmp_path.rglob("tokens.bin")))
    assert open_store(corpus, "train", tokenizer, tmp_path).tokens.tolist() == expected
    assert corpus.num_reads == 2


def test_a_killed_build_leaves_nothing_that_matters(corpus, tokenizer, tmp_path):
    open_store(corpus, "train", tokenizer, tmp_path)
    folder = next(path.parent for path in tmp_path.rglob("tokens.bin"))
    draft = folder.with_name(folder.name + ".draft")
    shutil.move(folder, draft)
    (draft / "meta.json").unlink()
    open_store(corpus, "train", tokenizer, tmp_path)
    assert not draft.exists()


def test_full_disk(corpus, tokenizer, tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFull) as error:
        open_store(corpus, "train", tokenizer, tmp_path)
    assert error.value.message == f"no space left for the cache in {tmp_path / 'tokens'}"
    assert "OMNICTL_CACHE" in error.value.fix
    assert names_below(tmp_path) == []


def test_cache_that_cannot_be_written(corpus, tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the cache in .*file.tokens: Not a directory"):
        open_store(corpus, "train", tokenizer, tmp_path / "file")


def test_a_corpus_that_breaks_leaves_nothing(corpus, tokenizer, tmp_path):
    def broken(split):
        yield "fine"
        raise DataError("broken", fix="mend it")

    corpus.documents = broken
    with pytest.raises(DataError, match="broken"):
        open_store(corpus, "train", tokenizer, tmp_path)
    assert names_below(tmp_path) == []


def build(cache):
    corpus = Documents(DOCUMENTS * 50)
    store = open_store(corpus, "train", Tokenizer.train_char(DOCUMENTS), cache)
    return corpus.num_reads, int(store.tokens.astype(np.int64).sum())


@pytest.mark.slow
def test_of_two_processes_one_builds(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        (reads_1, sum_1), (reads_2, sum_2) = pool.map(build, [tmp_path, tmp_path])
    assert reads_1 + reads_2 == 1
    assert sum_1 == sum_2


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("OMNICTL_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("OMNICTL_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "omnictl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / ".cache" / "omnictl"
