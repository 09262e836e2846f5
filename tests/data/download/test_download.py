import errno
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from corpus_server import Behaviour, serve

from omnictl.data.download import archives, corpus
from omnictl.data.download.archives import unpack_archive
from omnictl.data.download.catalogue import CATALOGUE, PublicCorpus, RemoteFile, with_mirrors
from omnictl.data.download.corpus import get_corpus
from omnictl.data.images.layouts import find_images
from omnictl.data.speech.layouts import find_speech
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError, DiskFull, UsageError

pytest.importorskip("pooch")


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def corpus_of(address, files, *, checksums=True, **fields):
    remote = tuple(
        RemoteFile((f"{address}/{name}",), len(content), f"sha256:{hashlib.sha256(content).hexdigest()}" if checksums else None)
        for name, content in files.items()
    )
    return PublicCorpus("a corpus", ("pretrain",), "public domain", "https://example.com", remote, **fields)


def get(made, folder):
    return get_corpus("test", made, folder, lambda name, have, total: None, pause=0)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


TEXT = {"train.txt": b"hello world\n" * 40_000, "valid.txt": b"good day\n" * 9}


@pytest.fixture
def behaviour():
    return Behaviour()


def test_files_and_archives(tmp_path, behaviour):
    behaviour.files = {"a.zip": zipped(TEXT), "b.txt": b"more\n", "c.tar.bz2": tarred({"deep/d.txt": b"d"}, "w:bz2")}
    with serve(behaviour) as address:
        made = get(corpus_of(address, behaviour.files), tmp_path / "data" / "x")
    assert left_in(made) == ["SOURCE.md", "b.txt", "deep", "train.txt", "valid.txt"]
    assert (made / "train.txt").read_bytes() == TEXT["train.txt"]
    assert left_in(tmp_path / "data") == ["x"]
    assert "licence: public domain" in (made / "SOURCE.md").read_text()


@pytest.mark.parametrize("ranges", [True, False])
def test_ten_cuts_end_whole(tmp_path, behaviour, ranges):
    content = TEXT["train.txt"]
    behaviour.files, behaviour.ranges = {"a.txt": content}, ranges
    behaviour.cut_after = len(content) // 11 + 1
    with serve(behaviour) as address:
        made = corpus_of(address, behaviour.files)
        if not ranges:
            with pytest.raises(DataError, match=r"cannot be downloaded"):
                get(made, tmp_path / "x")
            return
        folder = get(made, tmp_path / "x")
    assert (folder / "a.txt").read_bytes() == content
    assert len(behaviour.asked) > 10


def test_a_killed_download_goes_on(tmp_path, behaviour):
    content = TEXT["train.txt"]
    behaviour.files = {"a.txt": content}
    with serve(behaviour) as address:
        made = corpus_of(address, behaviour.files)
        (tmp_path / ".x.download").mkdir()
        (tmp_path / ".x.download" / "a.txt.part").write_bytes(content[:100_000])
        folder = get(made, tmp_path / "x")
    assert behaviour.asked == ["bytes=100000-"]
    assert (folder / "a.txt").read_bytes() == content


def test_a_part_that_is_whole_already(tmp_path, behaviour):
    behaviour.files = {"a.txt": b"hello"}
    (tmp_path / ".x.download").mkdir()
    (tmp_path / ".x.download" / "a.txt.part").write_bytes(b"hello")
    with serve(behaviour) as address:
        assert (get(corpus_of(address, behaviour.files), tmp_path / "x") / "a.txt").read_bytes() == b"hello"


def test_a_wrong_checksum_leaves_nothing_and_a_mirror_helps(tmp_path, behaviour):
    good = {"a.txt": b"hello"}
    behaviour.files = {"a.txt": b"hullo"}
    with serve(behaviour) as address, serve(Behaviour(files=good)) as mirror:
        made = corpus_of(address, good)
        with pytest.raises(DataError) as error:
            get(made, tmp_path / "x")
        assert "its checksum is" in error.value.message
        assert f"expected {hashlib.sha256(b'hello').hexdigest()}" in error.value.message
        assert not (tmp_path / "x").exists()
        assert list(tmp_path.rglob("*.part")) == []
        assert (get(with_mirrors(made, [mirror]), tmp_path / "x") / "a.txt").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claimed": 10**12}, "it has 1,000,000,000,000 bytes there, about 5 were expected"),
        ({"claimed": 2}, "its checksum is"),
        ({"claimed": 9}, ""),
        ({"status": 404}, "404 Not Found"),
        ({"status": 503}, "503 Service Unavailable"),
        ({"files": {}}, "404 Not Found"),
    ],
)
def test_servers_that_lie_or_fail(tmp_path, behaviour, change, message):
    files = {"a.txt": b"hello"}
    behaviour.files = files
    for name, value in change.items():
        setattr(behaviour, name, value)
    with serve(behaviour) as address, pytest.raises(DataError) as error:
        get(corpus_of(address, files), tmp_path / "x")
    assert error.value.message.startswith("a.txt cannot be downloaded\n")
    assert message in error.value.message
    assert "--mirror URL" in error.value.fix
    assert not (tmp_path / "x").exists()


def test_no_server_at_all(tmp_path):
    made = corpus_of("http://127.0.0.1:9", {"a.txt": b""})
    with pytest.raises(DataError, match=r"cannot be downloaded"):
        get(made, tmp_path / "x")


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_a_path_that_leaves_the_folder(tmp_path, behaviour, make, name):
    suffix = "zip" if make is zipped else "tar.gz"
    behaviour.files = {f"a.{suffix}": make({"fine.txt": b"x", name: b"evil"})}
    with serve(behaviour) as address, pytest.raises(DataError) as error:
        get(corpus_of(address, behaviour.files), tmp_path / "x")
    assert "would land outside of the folder" in error.value.message
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_bombs(tmp_path, behaviour, monkeypatch, make):
    monkeypatch.setattr(corpus, "_SLACK_BYTES", 1000)
    suffix = "zip" if make is zipped else "tar.gz"
    behaviour.files = {f"a.{suffix}": make({"zeros.txt": bytes(1 << 20)}) if make is tarred else deflated(bytes(1 << 20))}
    with serve(behaviour) as address, pytest.raises(DataError, match=r"unpacks to more than"):
        get(corpus_of(address, behaviour.files), tmp_path / "x")
    assert left_in(tmp_path) == []


def deflated(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", content)
    return out.getvalue()


def test_links_in_archives_are_left_out(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
        member = tarfile.TarInfo("out/passwd")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    unpack_archive(tmp_path / "a.tar", tmp_path / "x", most_bytes=100)
    assert (tmp_path / "x" / "out" / "passwd").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_broken_archives(tmp_path, behaviour, name):
    whole = zipped(TEXT) if name == "a.zip" else tarred(TEXT)
    behaviour.files = {name: whole[: len(whole) // 2]}
    with serve(behaviour) as address, pytest.raises(DataError, match=r"is a broken archive"):
        get(corpus_of(address, behaviour.files), tmp_path / "x")
    assert left_in(tmp_path) == []


def test_no_space(tmp_path, behaviour, monkeypatch):
    behaviour.files = {"a.zip": zipped(TEXT)}
    monkeypatch.setattr(corpus.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DiskFull, match=r"to download and unpack, 0.0 GB are free") as error:
        get(corpus_of("http://127.0.0.1:9", behaviour.files), tmp_path / "x")
    assert error.value.fix.startswith("free some space")
    assert left_in(tmp_path) == []


def test_a_disk_that_fills_up(tmp_path, behaviour, monkeypatch):
    behaviour.files = {"a.zip": zipped(TEXT)}

    def copy(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with serve(behaviour) as address:
        monkeypatch.setattr(archives, "_copy", copy)
        with pytest.raises(DiskFull, match=r"no space left to unpack a.zip"):
            get(corpus_of(address, behaviour.files), tmp_path / "x")
    assert left_in(tmp_path) == [".x.download"]  # what is downloaded is kept


def test_a_folder_in_use(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    with pytest.raises(UsageError, match="exists and is not empty"):
        get(corpus_of("http://127.0.0.1:9", {}), tmp_path / "x")


def test_pooch_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError) as error:
        get(corpus_of("http://127.0.0.1:9", {"a.txt": b"x"}), tmp_path / "x")
    assert error.value.fix == "pip install 'omnictl[get]'"


# The catalogue


LAYOUTS = {
    "librispeech-dev-clean": {
        "LibriSpeech/dev-clean/84/1/84-1.trans.txt": b"84-1-0 HELLO\n84-1-1 YES\n",
        "LibriSpeech/dev-clean/84/1/84-1-0.flac": b"x",
        "LibriSpeech/dev-clean/84/1/84-1-1.flac": b"x",
    },
    "ljspeech": {
        "LJSpeech-1.1/metadata.csv": b"LJ1|Hi|Hi\nLJ2|Yes|Yes\n",
        "LJSpeech-1.1/wavs/LJ1.wav": b"x",
        "LJSpeech-1.1/wavs/LJ2.wav": b"x",
    },
    "fsdd": {"fsdd-1.0.10/recordings/7_anna_0.wav": b"x", "fsdd-1.0.10/recordings/7_anna_9.wav": b"x"},
    "speech-commands": {
        "./yes/a1_nohash_0.wav": b"x",
        "./no/a2_nohash_0.wav": b"x",
        "./_background_noise_/x.wav": b"x",
        "./validation_list.txt": b"no/a2_nohash_0.wav\n",
        "./testing_list.txt": b"\n",
    },
    "vctk": {
        "wav48_silence_trimmed/p1/p1_001_mic1.flac": b"x",
        "txt/p1/p1_001.txt": b"Hello.",
        "txt/p1/p1_002.txt": b"Yes.",
        "wav48_silence_trimmed/p1/p1_002_mic1.flac": b"x",
    },
    "cifar10": {"cifar10/train/cat/1.png": b"x", "cifar10/train/dog/1.png": b"x", "cifar10/labels.txt": b"cat"},
    "imagenette": {
        "imagenette2-160/train/n1/1.JPEG": b"x",
        "imagenette2-160/val/n2/1.JPEG": b"x",
        "imagenette2-160/noisy.csv": b"path,x\n",
    },
    "food101": {
        "food-101/images/apple_pie/1.jpg": b"x",
        "food-101/images/pho/2.jpg": b"x",
        "food-101/meta/train.txt": b"apple_pie/1\n",
        "food-101/meta/test.txt": b"pho/2\n",
    },
    "wikitext103": {"w/wiki.train.raw": b"one", "w/wiki.valid.raw": b"two", "w/wiki.test.raw": b"three"},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_corpus_is_read_as_it_comes(tmp_path, behaviour, name):
    entry = CATALOGUE[name]
    (file,) = entry.files
    content = (
        zipped(LAYOUTS[name]) if file.name.endswith(".zip") else tarred(LAYOUTS[name], "w:bz2" if "bz2" in file.name else "w:gz")
    )
    behaviour.files = {file.name: content}
    with serve(behaviour) as address:
        small = entry._replace(files=(RemoteFile((f"{address}/{file.name}",), len(content)),))
        data = get(small, tmp_path / "x")
    if entry.stages == ("pretrain",):
        read = open_corpus(TextDataConfig(source=str(data)))
        assert [list(read.documents(split)) for split in ("train", "val", "test")] == [["one"], ["two"], ["three"]]
        return
    manifest = find_images(data) if entry.stages == ("vision",) else find_speech(data)
    assert len(manifest.rows) == 2
    assert manifest.broken == ()
    assert entry.held_out is None or {row.split for row in manifest.rows} == {entry.held_out}
    assert CATALOGUE[name].num_bytes > 1e6


def test_every_entry_is_complete():
    for name, entry in CATALOGUE.items():
        assert entry.files, name
        assert all(url.startswith("http") for file in entry.files for url in file.urls)
        assert all(file.checksum is None or file.checksum.startswith(("md5:", "sha256:")) for file in entry.files)
        assert not Path(entry.data).is_absolute()
