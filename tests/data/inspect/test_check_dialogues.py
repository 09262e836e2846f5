import logging

import numpy as np
import pytest
import soundfile
from corpus_files import append_row, cut_end, kinds_and_places
from PIL import Image

from omnictl import progress
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.inspect import audio_files, image_files
from omnictl.data.inspect.dialogues import check_dialogues, measure_dialogues
from omnictl.tinyworld.dialogues import TASKS


class Corpus:
    """A file of dialogues that grows row by row, and the images and recordings that it names: noise, no two alike."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "dialogues.jsonl"
        self._rng = np.random.default_rng(0)

    def __str__(self):
        return str(self.file)

    def add(self, *content, reply=None, **fields):
        """A row, of the training split if none is named, and what it shows and plays; returns where it stands."""
        said = [{"type": "text", "text": "Yes."}, self._part(reply)] if reply else "Yes."
        messages = [{"role": "user", "content": [self._part(each) for each in content]}, {"role": "assistant", "content": said}]
        return self.write({"messages": messages, "split": "train", **fields})

    def write(self, row):
        return append_row(self.file, row)

    def _part(self, value):
        kind = {".png": "image", ".bmp": "image", ".wav": "audio"}.get(value[-4:], "text")
        if kind == "image" and not (self.folder / value).exists():
            Image.fromarray(self._rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(self.folder / value)
        if kind == "audio" and not (self.folder / value).exists():
            self.audio(value, 4_000)
        return {"type": kind, kind: value}

    def audio(self, name, length):
        soundfile.write(self.folder / name, self._rng.integers(-9000, 9000, length, dtype=np.int16), 8_000)

    def cut(self, name):
        cut_end(self.folder / name)


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def test_how_much_there_is(corpus):
    corpus.add("a.png", "What?", task="naming", reply="yes.wav")
    corpus.add("a.png", "b.png", "x.wav", task="naming")
    corpus.add("Who is it?", task="talk", split="val")
    turn = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    corpus.write({"messages": [{"role": "system", "content": "Be brief."}, *turn, *turn], "split": "test"})
    for report in (check_dialogues(str(corpus)), measure_dialogues(str(corpus.folder))):
        assert (list(report.broken), list(report.warnings), report.error()) == ([], [], None)
        assert (report.kind, report.unit, report.total) == ("dialogues", "rows", 4)
        assert report.summary == {
            "splits": {
                "train": {"dialogues": 2, "pictures": 2, "sounds": 1, "seconds": 0.5},
                "val": {"dialogues": 1, "pictures": 0, "sounds": 0, "seconds": 0},
                "test": {"dialogues": 1, "pictures": 0, "sounds": 0, "seconds": 0},
            },
            "tasks": {
                "naming": {"train": 2, "val": 0, "test": 0},
                "talk": {"train": 0, "val": 1, "test": 0},
                "dialogue": {"train": 0, "val": 0, "test": 1},
            },
            "messages_by_role": {"user": 5, "assistant": 5, "system": 1},
            "spoken_replies": 1,
            "characters_per_dialogue_min": 4,
            "characters_per_dialogue_median": 11.5,
            "characters_per_dialogue_max": 27,
            "seconds_per_sound_min": 0.5,
            "seconds_per_sound_median": 0.5,
            "seconds_per_sound_p95": 0.5,
            "seconds_per_sound_max": 0.5,
        }


def test_each_broken_row_is_named(corpus):
    corpus.add("What?")
    places = [
        corpus.write({"messages": []}),
        corpus.add("a.png", "cut.png", "cut.wav"),
        corpus.add("cut.wav"),
        corpus.add("nowhere", "cut.png", split="test"),
    ]
    corpus.cut("cut.png")
    corpus.cut("cut.wav")
    for report in (check_dialogues(str(corpus)), measure_dialogues(str(corpus))):
        assert kinds_and_places(report.broken) == list(zip(("row", "image", "audio", "image"), places, strict=True))
        assert (report.total, report.num_broken) == (5, 4)
        assert report.broken[0].message == "messages should be a list of messages, found an empty list"
        assert report.broken[1].message.startswith(f"{corpus.folder}/cut.png is cut off")
        assert str(corpus.folder / "cut.wav") in report.broken[2].message
        assert report.error().message.startswith(f"4 of 5 rows are broken:\n{places[0]}: messages should be")


def test_the_broken_images_are_those_that_training_sets_aside(corpus, tmp_path_factory):
    for number in range(40):
        corpus.add(f"{number}.png", split=None)
    corpus.cut("3.png")
    corpus.cut("30.png")
    files = open_dialogues(DialogueDataConfig(source=str(corpus)), tmp_path_factory.mktemp("cache"))
    report = check_dialogues(str(corpus))
    assert {(row.where, row.message) for row in files.broken} == {(each.where, each.message) for each in report.broken}
    counts = [sum(files.tasks(split).values()) for split in ("train", "val", "test")]
    assert [size["dialogues"] for size in report.summary["splits"].values()] == counts


def test_a_reply_that_cannot_be_read_is_a_warning(corpus):
    """Nothing is trained on it."""
    where = corpus.add("What?", reply="yes.wav")
    corpus.cut("yes.wav")
    report = check_dialogues(str(corpus))
    assert (report.broken, kinds_and_places(report.warnings)) == ([], [("reply", where)])
    assert report.summary["spoken_replies"] == 0


def test_an_image_or_a_recording_in_two_splits_whatever_its_file(corpus):
    train = corpus.add("a.png", "x.wav")
    corpus.add("a.png", "x.wav")
    (corpus.folder / "y.wav").write_bytes((corpus.folder / "x.wav").read_bytes())
    Image.open(corpus.folder / "a.png").save(corpus.folder / "b.bmp")
    val = corpus.add("y.wav", split="val")
    corpus.add("y.wav", split="val")
    test = corpus.add("b.bmp", split="test")
    corpus.add("c.png", "z.wav", split="test")
    image, audio = check_dialogues(str(corpus)).warnings
    assert (image.kind, image.where) == (audio.kind, test) == ("duplicate", test)
    assert image.message == f"the same image is in the train split, this one in test: {train}"
    assert (audio.where, audio.message) == (val, f"the same recording is in the train split, this one in val: {train}")


def test_a_very_long_recording(corpus):
    corpus.audio("long.wav", 8_000 * 31)
    where = corpus.add("long.wav")
    (warning,) = check_dialogues(str(corpus)).warnings
    assert (warning.kind, warning.where) == ("long", where)
    assert warning.message == "a recording of 31.0 s: training sets it aside unless data.max_seconds is more than 30"


def test_every_file_is_read_once(corpus, monkeypatch):
    read = []
    whole, audio = image_files.read_image, audio_files.read_audio
    monkeypatch.setattr(image_files, "read_image", lambda path: read.append(path.name) or whole(path))
    monkeypatch.setattr(audio_files, "read_audio", lambda path, rate: read.append(path.name) or audio(path, rate=rate))
    for split in ("train", "train", "val"):
        corpus.add("a.png", "x.wav", split=split, reply="yes.wav")
    check_dialogues(str(corpus))
    assert sorted(read) == ["a.png", "x.wav", "yes.wav"]


def test_headers_alone_are_read_for_figures(corpus, monkeypatch):
    corpus.add("a.png", "x.wav", reply="yes.wav")
    monkeypatch.delattr(image_files, "read_image")
    monkeypatch.delattr(audio_files, "read_audio")
    assert measure_dialogues(str(corpus)).summary["splits"]["train"]["seconds"] == 0.5


def test_a_limit_is_of_each_split(corpus):
    for split in ("train", "train", "test", "test", "test"):
        corpus.add("What?", split=split)
    report = check_dialogues(str(corpus), limit=2)
    assert (report.total, sum(size["dialogues"] for size in report.summary["splits"].values())) == (4, 4)


def test_tinyworld_is_drawn_and_spoken():
    report = check_dialogues("tinyworld:7", limit=13)
    assert (report.source, report.total, report.broken, report.warnings) == ("tinyworld:7", 39, [], [])
    assert report.summary["tasks"] == {task: {"train": 1, "val": 1, "test": 1} for task in TASKS}
    assert [size["sounds"] for size in report.summary["splits"].values()] == [3, 3, 3]
    assert report.summary["messages_by_role"]["user"] == report.summary["messages_by_role"]["assistant"] >= 39


def test_progress_is_told(corpus, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_NOTES", -1.0)
    corpus.add("a.png", "x.wav")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        check_dialogues(str(corpus))
    assert [record.message for record in caplog.records] == [
        "checking images: 1 of 1, 0 s left",
        "checking recordings: 1 of 1, 0 s left",
    ]


def test_real_images_and_recordings(test_data, corpus):
    shown = sorted((test_data / "cifar10_mini" / "train").glob("*/*.jpg"))[::400][:10]
    heard = sorted((test_data / "fsdd" / "audio").glob("*.wav"))[::250][:10]
    for number, (image, audio) in enumerate(zip(shown, heard, strict=True)):
        (corpus.folder / f"{number}.png").write_bytes(image.read_bytes())  # recognised by content, whatever the name
        (corpus.folder / f"{number}.wav").write_bytes(audio.read_bytes())
        corpus.add(f"{number}.png", f"{number}.wav", split=None)
    report = check_dialogues(str(corpus))
    assert (report.broken, report.warnings, report.total) == ([], [], 10)
    assert sum(size["pictures"] for size in report.summary["splits"].values()) == 10
    assert 1 < sum(size["seconds"] for size in report.summary["splits"].values()) < 20
