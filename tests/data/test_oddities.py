"""Files as people bring them: each folder of `oddities` is read, and what is wrong with it is named."""

import logging

import pytest

from omnictl.config.split import SPLITS
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.images.layouts import find_images
from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.data.speech.layouts import find_speech
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus


@pytest.fixture
def oddities(test_data):
    return test_data / "oddities"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "dialogues") for name in ("swift_images", "llava", "minimind")),
        *((name, "speech") for name in ("segments", "gigaspeech", "piper_ms", "lj_ext", "libri")),
        *((name, "text") for name in ("text_splits", "text_gz")),
        ("jfif", "images"),
    ],
)
def test_kinds(oddities, name, kind):
    assert find_kind(str(oddities / name)) == kind


@pytest.mark.parametrize(("name", "usable", "images"), [("swift_images", 24, 24), ("llava", 3, 3), ("minimind", 24, 0)])
def test_dialogues(oddities, name, usable, images):
    manifest = read_dialogues(oddities / name)
    assert (len(manifest.rows), sum(len(row.media) for row in manifest.rows)) == (usable, images)
    assert all("no such image file" in row.message for row in manifest.broken)


def test_text(oddities, caplog):
    corpus = open_corpus(TextDataConfig(source=str(oddities / "text_splits")))
    assert {split: len(list(corpus.documents(split))) for split in SPLITS} == {"train": 60, "val": 60, "test": 60}
    with caplog.at_level(logging.INFO, logger="omnictl"):
        packed = open_corpus(TextDataConfig(source=str(oddities / "text_gz")))
    assert len(list(packed.documents("train"))) > 700
    assert "README.txt" in caplog.text


def test_speech(oddities):
    manifests = {name: find_speech(oddities / name) for name in ("segments", "gigaspeech", "piper_ms", "lj_ext", "libri")}
    assert {name: len(manifest.rows) for name, manifest in manifests.items()} == {
        "segments": 8,
        "gigaspeech": 6,
        "piper_ms": 6,
        "lj_ext": 6,
        "libri": 3,
    }
    assert all(manifest.broken == () for manifest in manifests.values())
    assert {row.speaker for row in manifests["piper_ms"].rows} == {"anna", "ben"}
    assert manifests["gigaspeech"].rows[0].text == "AUTHOR OF THE DANGER TRAIL, PHILIP STEELS, ETC."
    assert len({row.audio for row in manifests["segments"].rows}) == 8


def test_images(oddities):
    manifest = find_images(oddities / "jfif")
    assert (len(manifest.rows), manifest.broken) == (8, ())
