import hashlib
import json

import pytest

from omnictl.cli.app import run
from omnictl.data.download import catalogue
from omnictl.data.download.catalogue import CATALOGUE, PublicCorpus, RemoteFile
from omnictl.errors import RunError


def test_the_list_names_every_corpus(capsys):
    assert run(["data", "get", "--list"]) == 0
    text = capsys.readouterr().out
    assert [name for name in CATALOGUE if name not in text] == []
    assert run(["data", "get", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["corpora"]["ljspeech"]["stages"] == ["talker", "asr"]


def test_an_unknown_name(capsys):
    assert run(["data", "get", "libri"]) == 2
    assert "there is no corpus 'libri' in the list" in capsys.readouterr().err


@pytest.fixture
def mirrored(tmp_path, monkeypatch):
    """A corpus of one text, which a mirror has, and its own server has not."""
    pytest.importorskip("pooch")
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *arguments):
            """Nothing."""

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.txt").write_bytes(b"hello")
    file = RemoteFile(("http://127.0.0.1:9/a.txt",), 5, f"md5:{hashlib.md5(b'hello').hexdigest()}")
    corpus = PublicCorpus("one word", ("pretrain",), "public domain", "https://example.com", (file,))
    monkeypatch.setitem(catalogue.CATALOGUE, "word", corpus)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_corpus_from_a_mirror(tmp_path, mirrored, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["data", "get", "word", "--mirror", mirrored, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["commands"] == ["omnictl pretrain --data data/word"]
    assert (tmp_path / "data" / "word" / "a.txt").read_bytes() == b"hello"
    assert run(["data", "get", "word", "--mirror", mirrored]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(("part", "split"), [("dev-clean", "val"), ("test-clean", "test")])
def test_a_corpus_without_training_data_is_for_the_evaluation(tmp_path, capsys, part, split):
    (command,) = CATALOGUE[f"librispeech-{part}"].commands(tmp_path)
    assert command == f"omnictl eval asr --data {tmp_path} --split {split}"
    assert run([*command.split()[1:], "--runs", str(tmp_path)]) == RunError.exit_code
    assert "asr" in capsys.readouterr().err  # of which there is no run yet
    assert CATALOGUE["librispeech-train-clean-100"].commands(tmp_path) == [f"omnictl asr --data {tmp_path}"]
