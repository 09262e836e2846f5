"""Files as people bring them: each folder of `oddities` is read, and what is wrong with it is named."""

import json
import logging
import os
import subprocess
import sys
import unicodedata

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


def test_segments_are_as_long_as_they_say(oddities):
    import soundfile

    manifest = find_speech(oddities / "segments")
    assert [soundfile.info(row.audio).duration for row in manifest.rows] == pytest.approx(
        [row.duration for row in manifest.rows], abs=0.1
    )


def write_voices(folder, name):
    """A recording under a name, and a manifest that names it in Unicode's composed form, with columns that nobody reads."""
    import numpy as np
    import soundfile

    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"{name}{number}.wav", np.linspace(-0.5, 0.5, 8000 + number), 8000)
    composed = unicodedata.normalize("NFC", name)
    texts = ["кот и пёс " * (number + 1) for number in range(4)]
    rows = [f"{composed}{number}.wav,{text},great,{'val' if number == 3 else 'train'}" for number, text in enumerate(texts)]
    (folder / "metadata.csv").write_text("\n".join(["audio,text,mood,split", *rows]), encoding="utf-8")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_another_normal_form(tmp_path, form):
    write_voices(tmp_path / "voices", unicodedata.normalize(form, "café"))
    manifest = find_speech(tmp_path / "voices")
    assert (len(manifest.rows), manifest.broken) == (4, ())


def test_columns_that_are_not_read_are_named_once(tmp_path, caplog):
    write_voices(tmp_path / "voices", "a")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        find_speech(tmp_path / "voices")
    assert caplog.messages == [f"{tmp_path / 'voices' / 'metadata.csv'}: columns or keys that are not read: 'mood' (4)"]
    row = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}], "speaker": "ann", "n": None}
    (tmp_path / "talks.jsonl").write_text(json.dumps(row))
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="omnictl"):
        read_dialogues(tmp_path / "talks.jsonl")
    assert caplog.messages == [f"{tmp_path / 'talks.jsonl'}: columns or keys that are not read: 'speaker' (1)"]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_terminals_of_few_letters_and_no_home(tmp_path, encoding):
    write_voices(tmp_path / "пёс", "e\u0301")
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    ended = subprocess.run(
        [sys.executable, "-m", "omnictl", "data", "check", "пёс", "--targets", "chars"],
        cwd=tmp_path,
        env={**environment, "PYTHONIOENCODING": encoding, "OMNICTL_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        check=False,
    )
    said = (ended.stdout + ended.stderr).decode(encoding)
    assert "Traceback" not in said
    assert ended.returncode == 0, said
