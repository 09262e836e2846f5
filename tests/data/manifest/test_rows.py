"""What manifests of speech and of images have in common: paths, splits, files that are not manifests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from omnictl.data.images import manifest as image_manifest
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech import manifest as speech_manifest
from omnictl.errors import DataError


class Corpus(NamedTuple):
    """A folder with five media files, whose content nobody reads, and how its manifest is written and read."""

    key: str
    """Column of the path, and the word for the media in messages."""
    columns: str
    suffix: str
    fix_empty: str
    needs: str
    read: Callable[[Path], Any]
    folder: Path

    def path(self, letter: str) -> str:
        return f"media/{letter}.{self.suffix}"

    def write(self, *lines: str, name: str = "metadata.csv") -> Path:
        path = self.folder / name
        path.write_bytes("".join(f"{line}\n" for line in (f"{self.key},{self.columns}", *lines)).encode())
        return path

    def error(self, path: Path) -> DataError:
        with pytest.raises(DataError) as error:
            self.read(path)
        return error.value

    def broken(self, line: str) -> BrokenRow:
        """The row that a line becomes, below one that is fine."""
        manifest = self.read(self.write(f"{self.path('e')},fine,fine,train", line))
        assert len(manifest.rows) == 1
        return manifest.broken[0]


@pytest.fixture(params=["audio", "image"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    folder = tmp_path / "corpus"
    if request.param == "audio":
        fix, needs = "write one line per recording: its audio file and its text", "a text and the path of an audio file"
        made = Corpus("audio", "text,speaker,split", "wav", fix, needs, speech_manifest.read_manifest, folder)
    else:
        fix = "write one line per image: its image file, and its label or caption"
        needs = "a label or a caption, and the path of an image file"
        made = Corpus("image", "label,caption,split", "png", fix, needs, image_manifest.read_manifest, folder)
    (folder / "media").mkdir(parents=True)
    for letter in "abcde":
        (folder / made.path(letter)).write_bytes(b"")
    return made


# Rows


def test_where_has_the_path_as_given(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.write(f"{corpus.path('a')},hello,,")
    monkeypatch.chdir(corpus.folder)
    row = corpus.read(Path("metadata.csv")).rows[0]
    assert row.where == "metadata.csv:2"
    assert row.file.is_absolute()


@pytest.mark.parametrize(
    ("written", "split"),
    [("train", "train"), ("val", "val"), ("validation", "val"), ("valid", "val"), ("Dev", "val"), (" test ", "test"), ("", None)],
)
def test_names_of_splits(corpus: Corpus, written: str, split: str | None) -> None:
    assert corpus.read(corpus.write(f"{corpus.path('a')},hello,,{written}")).rows[0].split == split


def test_a_link_inside_the_folder_is_followed(corpus: Corpus) -> None:
    (corpus.folder / corpus.path("link")).symlink_to(Path(corpus.path("a")).name)
    (corpus.folder / "other").symlink_to("media")
    names = [corpus.path("link"), corpus.path("b").replace("media", "other")]
    assert [row.id for row in corpus.read(corpus.write(*(f"{name},one,," for name in names))).rows] == names


def test_a_folder_reached_by_a_link(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write(f"{corpus.path('a')},one,,")
    (tmp_path / "elsewhere").symlink_to(corpus.folder)
    manifest = corpus.read(tmp_path / "elsewhere" / "metadata.csv")
    assert manifest.folder == corpus.folder.resolve()
    assert manifest.rows[0].where == f"{tmp_path / 'elsewhere' / 'metadata.csv'}:2"


# Broken rows


@pytest.mark.parametrize(
    ("line", "identity", "message"),
    [
        (",hello,,train", None, "the KEY path is empty"),
        ("FILE,hello", "FILE", "found 2 fields, expected the 4 of the header"),
        (
            "FILE,Hello, you,,train",
            "FILE",
            "found 5 fields, expected the 4 of the header: put quotes around a field that holds a separator",
        ),
        ("FILE,hello,,exam", "FILE", "the split is 'exam', expected one of train, val, test"),
        (
            "../corpus/FILE,hello,,",
            "../corpus/FILE",
            "the KEY path '../corpus/FILE' should be relative to the folder of the corpus, without '..'",
        ),
        (
            "/etc/passwd,hello,,",
            "/etc/passwd",
            "the KEY path '/etc/passwd' should be relative to the folder of the corpus, without '..'",
        ),
    ],
)
def test_broken_csv_row(corpus: Corpus, line: str, identity: str | None, message: str) -> None:
    def fill(text: str) -> str:
        return text.replace("FILE", corpus.path("a")).replace("KEY", corpus.key)

    where = f"{corpus.folder / 'metadata.csv'}:3"
    assert corpus.broken(fill(line)) == BrokenRow(fill(identity or where), where, fill(message))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"KEY": "FILE"', "broken JSON: Expecting ',' delimiter"),
        ("[" * 100_000, "broken JSON: "),
        ('["a"]', "an object was expected, found a list"),
        ('"a"', "an object was expected, found a string"),
        ("{}", "no key 'KEY' (found no keys)"),
    ],
)
def test_a_line_that_is_not_an_object(corpus: Corpus, value: str, message: str) -> None:
    fine = json.dumps({corpus.key: corpus.path("e"), **dict.fromkeys(corpus.columns.split(",")[:1], "fine")})
    path = corpus.folder / "metadata.jsonl"
    path.write_text(f"{fine}\n{value.replace('KEY', corpus.key)}\n")
    (row,) = corpus.read(path).broken
    assert (row.id, row.where) == (f"{path}:2", f"{path}:2")
    assert row.message.startswith(message.replace("KEY", corpus.key))


def test_no_such_file(corpus: Corpus) -> None:
    for name in (corpus.path("z"), "media", "~/a.wav", f"{corpus.path('a')}/b"):
        assert corpus.broken(f"{name},hello,,").message == f"no such {corpus.key} file: {corpus.folder.resolve() / name}"


def test_a_link_out_of_the_folder(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    (corpus.folder / "media" / "out").symlink_to(tmp_path / "secret")
    (corpus.folder / "up").symlink_to(tmp_path)
    (corpus.folder / "loop").symlink_to("loop")
    for name in ("media/out", "up/secret"):
        message = f"the {corpus.key} path '{name}' is a link that leaves the folder of the corpus"
        assert corpus.broken(f"{name},hello,,").message == message
    assert corpus.broken("loop,hello,,").message == f"no such {corpus.key} file: {corpus.folder.resolve() / 'loop'}"


# Files


def test_missing_file(corpus: Corpus) -> None:
    error = corpus.error(corpus.folder / "none.csv")
    assert error.message == f"no such file or folder: {corpus.folder / 'none.csv'}"
    assert error.fix == "check the path given to --data"


def test_other_suffix(corpus: Corpus) -> None:
    error = corpus.error(corpus.write(name="metadata.xml"))
    assert error.message == f"{corpus.folder / 'metadata.xml'} is not a .csv, .tsv, .jsonl, .json manifest"
    assert error.fix == "give --data a .csv, .tsv, .jsonl, .json file, or a folder"


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_empty_file(corpus: Corpus, name: str, content: bytes) -> None:
    path = corpus.folder / name
    path.write_bytes(content)
    error = corpus.error(path)
    assert (error.message, error.fix) == (f"{path} is empty", corpus.fix_empty)


def test_no_usable_row(corpus: Corpus) -> None:
    path = corpus.write("z,hello,,", f"{corpus.path('a')},,,")
    error = corpus.error(path)
    missing = f"no such {corpus.key} file: {corpus.folder.resolve() / 'z'}"
    assert error.message == f"no row of {path} can be used: {missing}; 1 more are broken"
    assert error.where == f"{path}:2"
    assert error.fix == f"a row needs {corpus.needs}, relative to {corpus.folder.resolve()}"


def test_a_header_alone(corpus: Corpus) -> None:
    path = corpus.write()
    assert corpus.error(path).message == f"{path} has no rows"
