import errno
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omnictl.data import export
from omnictl.data.audio.decoder import read_audio
from omnictl.data.dialogues.chat_template import Media
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues, say
from omnictl.data.export import export_dialogues, export_images, export_speech, export_text
from omnictl.data.images.corpus import ImageDataConfig, View
from omnictl.data.images.files.decoder import probe_image
from omnictl.data.images.source import open_images
from omnictl.data.images.tinyworld import TinyWorldImages
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.data.text.tinyworld import TinyWorldText
from omnictl.errors import DataError, DiskFull, UsageError
from omnictl.tinyworld.dialogues import TASKS

SPLITS = ("train", "val", "test")

TEXT = TinyWorldText(7, 30, 5)
SPEECH = TinyWorldSpeech(7, 6, 4)
IMAGES = TinyWorldImages(7, 8, ())
NUM_IMAGES = 12
DIALOGUES = TinyWorldDialogues.few(7, 28, 13)


def export_few_images(world, out):
    return export_images(world, out, num=NUM_IMAGES)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """The folder of exported speech; not to be changed."""
    out = tmp_path_factory.mktemp("exported") / "speech"
    assert export_speech(SPEECH, out) == {"train": 6, "val": 4, "test": 4}
    return out


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of exported images; not to be changed."""
    out = tmp_path_factory.mktemp("exported") / "images"
    assert export_few_images(IMAGES, out) == {"train": NUM_IMAGES, "val": 4, "test": 8}
    return out


@pytest.fixture(scope="module")
def talked(tmp_path_factory):
    """The folder of exported dialogues; not to be changed."""
    out = tmp_path_factory.mktemp("exported") / "dialogues"
    assert export_dialogues(DIALOGUES, out) == {"train": 28, "val": 13, "test": 13}
    return out


# Text


def test_documents_read_back_the_same(tmp_path):
    assert export_text(TEXT, tmp_path / "out") == {"train": 30, "val": 5, "test": 5}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["documents.jsonl"]
    for path in (tmp_path / "out", tmp_path / "out" / "documents.jsonl"):
        corpus = open_corpus(TextDataConfig(source=str(path)))
        for split in SPLITS:
            assert list(corpus.documents(split)) == list(TEXT.documents(split))


def test_few_documents_read_back_the_same(tmp_path):
    world = TinyWorldText(3, 1, 1)
    export_text(world, tmp_path / "out")
    corpus = open_corpus(TextDataConfig(source=str(tmp_path / "out")))
    assert [list(corpus.documents(split)) for split in SPLITS] == [list(world.documents(split)) for split in SPLITS]


def test_markup_is_written_as_characters(tmp_path):
    export_text(TEXT, tmp_path / "out")
    texts = [json.loads(line)["text"] for line in (tmp_path / "out" / "documents.jsonl").read_text().splitlines()]
    assert any("<|im_start|>user\n" in text for text in texts)
    assert not open_corpus(TextDataConfig(source=str(tmp_path / "out"))).markup


# Speech


def test_recordings_read_back_the_same(spoken):
    files = open_speech(SpeechDataConfig(source=str(spoken)))
    assert not files.broken
    for split in SPLITS:
        expected, found = SPEECH.recordings(split), files.recordings(split)
        assert [(row.text, row.speaker) for row in found] == [(row.text, row.speaker) for row in expected]
        recordings = zip(files.samples(split, 0, 16_000), SPEECH.samples(split, 0, 16_000), strict=True)
        for read, original in recordings:
            assert read.shape == original.shape
            assert np.abs(read - original).max() <= 2**-16


def test_files_are_16_bit_flac_at_16_khz(spoken):
    assert sorted(path.name for path in spoken.iterdir()) == ["audio", "metadata.csv"]
    header, first, *_ = (spoken / "metadata.csv").read_text().splitlines()
    assert header == "audio,text,speaker,split"
    assert first.startswith("audio/train_000000.flac,")
    files = list((spoken / "audio").iterdir())
    assert len(files) == 14
    for file in files:
        info = soundfile.info(file)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "write", "world"),
    [("spoken", export_speech, SPEECH), ("drawn", export_few_images, IMAGES), ("talked", export_dialogues, DIALOGUES)],
    ids=["speech", "images", "dialogues"],
)
def test_the_same_world_is_written_the_same(request, tmp_path, written, write, world):
    before = request.getfixturevalue(written)
    write(world, tmp_path / "again")
    for path in (path for path in before.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(before)).read_bytes() == path.read_bytes()


# Images


def test_images_read_back_the_same(drawn, tmp_path):
    files = open_images(ImageDataConfig(source=str(drawn), augmentation="none"), tmp_path)
    assert not files.broken
    view = View(size=112, grid=7)
    for split in SPLITS:
        found = files.images(split, "labels", IMAGES.attributes)
        expected = IMAGES.images(split, "labels", {})
        assert len(found) == (NUM_IMAGES if split == "train" else len(expected))
        for index in range(len(found)):
            row, original = found.row(index), expected.row(index)
            assert (row.labels, row.caption) == (original.labels, original.caption)
            assert list(row.labels) == list(IMAGES.attributes)
            image = expected.example(index, view).image
            for seed in (None, (1, 2, 3)):
                np.testing.assert_array_equal(found.example(index, view, seed).image, image)


def test_files_are_png_with_a_manifest(drawn):
    assert sorted(path.name for path in drawn.iterdir()) == ["images", "metadata.jsonl"]
    lines = (drawn / "metadata.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "image": "images/train_000000.png",
        "label": IMAGES.images("train", "labels", {}).row(0).labels,
        "caption": IMAGES.images("train", "labels", {}).row(0).caption,
        "split": "train",
    }
    names = [json.loads(line)["image"] for line in lines]
    assert sorted(names) == sorted(path.relative_to(drawn).as_posix() for path in (drawn / "images").iterdir())
    assert probe_image(drawn / "images" / "test_000007.png") == (112, 112, "PNG")


# Dialogues


def test_dialogues_read_back_the_same(talked, tmp_path):
    files = open_dialogues(DialogueDataConfig(source=str(talked)), tmp_path)
    assert (list(files.broken), files.kinds) == ([], {"image", "audio"})
    for split in SPLITS:
        assert files.tasks(split) == DIALOGUES.tasks(split)
        heard = [list(corpus.audio.samples(split, 0, 16_000)) for corpus in (files, DIALOGUES)]
        for task, count in DIALOGUES.tasks(split).items():
            for number in range(count):
                found, expected = files.dialogue(split, task, number), DIALOGUES.dialogue(split, task, number)
                assert (found.id, found.task) == (expected.id, expected.task)
                assert len(found.messages) == len(expected.messages)
                for message, original in zip(found.messages, expected.messages, strict=True):
                    assert message.role == original.role
                    for part, other in zip(message.parts, original.parts, strict=True):
                        same_part(part, other, files, split, heard)


def same_part(part, original, files, split, heard):
    if not isinstance(original, Media):
        assert part == original
        return
    assert part.kind == original.kind
    if part.kind == "image":
        images = [corpus.images(split).image(each.number, 112) for corpus, each in ((files, part), (DIALOGUES, original))]
        np.testing.assert_array_equal(*images)
    else:
        read, spoken = heard[0][part.number], heard[1][original.number]
        assert read.shape == spoken.shape
        assert np.abs(read - spoken).max() <= 2**-16


def test_answers_lie_beside_as_they_are_said(talked):
    rows = read_dialogues(talked).rows
    assert [row.task for row in rows[:15]] == [*TASKS, *TASKS[:2]]
    plans = [DIALOGUES.spoken_answer(*row.id.split("/")[:2], int(row.id.split("/")[2])) for row in rows]
    for row, plan, audio in zip(rows, plans, say(plans, 16_000), strict=True):
        *before, last = row.messages
        assert plan.text == last.parts[0]
        assert not any(message.spoken for message in before)
        (reply,) = last.spoken
        assert np.abs(read_audio(reply.file, rate=16_000) - audio).max() <= 2**-16


def test_every_file_of_dialogues_is_named_and_written_once(talked):
    assert sorted(path.name for path in talked.iterdir()) == ["audio", "dialogues.jsonl", "images", "replies"]
    rows = read_dialogues(talked).rows
    named = {media.file for row in rows for media in row.media} | {m.file for row in rows for t in row.messages for m in t.spoken}
    assert named == set(talked.resolve().glob("*/*"))
    assert probe_image(next((talked / "images").iterdir())) == (112, 112, "PNG")
    info = soundfile.info(next((talked / "replies").iterdir()))
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)


def test_an_image_that_dialogues_share_is_drawn_once(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(export, "render_pixels", lambda found: drawn.append(found) or np.zeros((112, 112, 3), np.uint8))
    monkeypatch.setattr(export, "_write_audio", lambda *_: None)
    world = TinyWorldDialogues(7, {"train": {"image_colour": 20, "caption": 20}, "val": {}, "test": {}}, 3)
    assert export_dialogues(world, tmp_path / "out") == {"train": 40, "val": 0, "test": 0}
    assert len(drawn) == len(list((tmp_path / "out" / "images").iterdir())) == 3


def test_a_dialogue_without_media_is_plain(talked):
    row = json.loads((talked / "dialogues.jsonl").read_text().splitlines()[0])
    assert list(row) == ["messages", "task", "id", "split"]
    assert (row["task"], row["id"], row["split"]) == ("text", "train/text/0", "train")
    assert all(isinstance(message["content"], str) for message in row["messages"][:-1])
    answer = DIALOGUES.dialogue("train", "text", 0).answer
    assert row["messages"][-1]["content"] == [
        {"type": "text", "text": answer},
        {"type": "audio", "audio": "replies/train_text_000000.flac"},
    ]


# Places


def test_a_new_folder_may_be_deep_and_an_old_one_empty(tmp_path):
    export_text(TEXT, tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c" / "documents.jsonl").is_file()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    export_text(TEXT, tmp_path / "link")
    assert (tmp_path / "empty" / "documents.jsonl").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty", "link"]


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for path, found in ((tmp_path, "holds something already"), (tmp_path / "mine.txt", "is a file")):
        with pytest.raises(UsageError) as error:
            export_text(TEXT, path)
        assert error.value.message == f"{path} {found}; a new or empty folder was expected"
        assert (error.value.where, error.value.fix) == ("--out", "name a folder that is not there yet")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_working_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is the working folder, which cannot be replaced"):
        export_text(TEXT, Path())


def test_a_place_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as error:
        export_text(TEXT, tmp_path / "file" / "out")
    assert error.value.message == f"cannot write {tmp_path}/file/out: File exists ({tmp_path}/file)"
    assert error.value.fix == "name a folder elsewhere, or make the one that it goes into writable"


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fails", "kind"), [(full, DiskFull), (interrupted, KeyboardInterrupt)])
@pytest.mark.parametrize(
    ("write", "world"),
    [(export_text, TEXT), (export_speech, SPEECH), (export_few_images, IMAGES), (export_dialogues, DIALOGUES)],
    ids=["text", "speech", "images", "dialogues"],
)
def test_what_fails_leaves_nothing(tmp_path, monkeypatch, fails, kind, write, world):
    monkeypatch.setattr(export, "flush", fails)
    with pytest.raises(kind):
        write(world, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("write", "world"), [(export_speech, SPEECH), (export_few_images, IMAGES)], ids=["speech", "images"])
def test_a_disk_that_fills_up_is_named(tmp_path, monkeypatch, write, world):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull) as error:
        write(world, tmp_path / "out")
    assert error.value.message == f"no space left while writing {tmp_path}/out"
    assert error.value.fix == "free some space, name a folder elsewhere, or write fewer with --num"
    assert list(tmp_path.iterdir()) == []


def test_a_voice_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise DataError("espeak-ng failed", fix="reinstall it")

    monkeypatch.setattr(TinyWorldSpeech, "samples", fails)
    with pytest.raises(DataError, match="espeak-ng failed"):
        export_speech(SPEECH, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
