import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from omnictl.config import resolve
from omnictl.data.dialogues.chat_template import Media, Message
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.examples import DialogueSet, task_weights
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues, say
from omnictl.data.images.file_corpus import load_image
from omnictl.errors import ConfigError, DataError
from omnictl.tinyworld.dialogues import SPOKEN_TASKS, TASKS, TRANSCRIBE

SPLITS = ("train", "val", "test")
NOISE = np.random.default_rng(0)


class Corpus:
    """A file of dialogues that grows row by row, and the images and recordings that it names: noise, no two alike."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "dialogues.jsonl"

    def add(self, *content, said="Yes.", **fields):
        """A row; names of files are images or recordings, which are written unless they are there."""
        parts = [self._part(each) for each in content]
        row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": said}], **fields}
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return f"{self.file}:{len(self.file.read_text().splitlines())}"

    def _part(self, value):
        kind = {".png": "image", ".wav": "audio"}.get(value[-4:], "text")
        path = self.folder / value
        if kind == "image" and not path.exists():
            Image.fromarray(NOISE.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
        if kind == "audio" and not path.exists():
            soundfile.write(path, NOISE.integers(-9000, 9000, 800, dtype=np.int16), 8_000)
        return {"type": kind, kind: value}

    def cut(self, name):
        path = self.folder / name
        path.write_bytes(path.read_bytes()[:-20])

    def open(self, **config):
        return open_dialogues(DialogueDataConfig(source=str(self.file), **config), self.folder / "cache")


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def dialogues(found, split):
    return [found.dialogue(split, task, number) for task, count in found.tasks(split).items() for number in range(count)]


# TinyWorld


@pytest.fixture
def world():
    counts = {"spoken": 3, "spoken_image": 2, "transcribe": 4}
    return open_dialogues(DialogueDataConfig(source="tinyworld:7", counts=counts, num_pictures=50, num_eval_dialogues=8), None)


def test_how_many_dialogues_the_world_has(world):
    assert (world.name, world.generated, list(world.broken)) == ("tinyworld:7", True, [])
    assert world.kinds == {"image", "audio"}
    assert {task: world.tasks("train")[task] for task in SPOKEN_TASKS} == {"spoken": 3, "spoken_image": 2, "transcribe": 4}
    assert world.tasks("train")["text"] == 1_000_000
    assert world.tasks("val") == dict.fromkeys(TASKS, 2)
    assert world.tasks("test") == dict.fromkeys(TASKS, 8)
    assert [len(world.images(split)) for split in SPLITS] == [50, 50, 50]


def test_a_task_that_the_world_has_not():
    with pytest.raises(DataError) as error:
        open_dialogues(DialogueDataConfig(counts={"sing": 3}), None)
    assert (error.value.message, error.value.where) == ("TinyWorld has no task 'sing'", "data.counts")
    assert "transcribe" in error.value.fix


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("counts.spoken=0", "found 0, expected at least 1"),
        ("counts.spoken=1000000000", "found 1000000000, expected at most 100000000"),
        ("weights.spoken=-1", "found -1, expected at least 0"),
        ("weights.spoken=1e999", "found Infinity, expected a finite number"),
        ("world_weights.spoken=-0.5", "found -0.5, expected at least 0"),
    ],
)
def test_numbers_that_no_task_can_have(setting, problem):
    with pytest.raises(ConfigError) as error:
        resolve(DialogueDataConfig, preset=None, overrides=[setting])
    assert error.value.message == f"--set {setting}: {setting.partition('=')[0]}: {problem}"


def test_some_task_must_be_drawn(world):
    training = DialogueSet(world, "train", {task: range(number) for task, number in world.tasks("train").items()}, ())
    some = DialogueDataConfig(world_weights={"spoken": 1}, weights={"text": 0})
    assert task_weights(training, some) == {"text": 0, "spoken": 1}
    with pytest.raises(DataError) as error:
        task_weights(training, DialogueDataConfig(world_weights={"spoken": 1}, weights={"spoken": 0, "text": 0}))
    assert (error.value.message, error.value.where) == ("the weight of spoken, text is 0: nothing is ever drawn", "data.weights")
    assert error.value.fix == "--set data.weights.spoken=1, or as often as it should be"


def test_messages_of_the_world(world):
    exchange = world.exchanges("train", "two_images", 4)[0]
    found = world.dialogue("train", "two_images", 4)
    shown = tuple(Media("image", number) for number in exchange.images)
    assert found.messages == (Message("user", (*shown, exchange.text)), Message("assistant", (exchange.answer,)))
    assert (found.id, found.task, found.where) == ("train/two_images/4", "two_images", "tinyworld:7/train/two_images/4")
    assert world.file("train", shown[0]) is None
    turns = world.exchanges("val", "multi_turn", 1)
    assert [message.role for message in world.dialogue("val", "multi_turn", 1).messages] == ["user", "assistant"] * len(turns)


def test_recordings_of_the_world_are_what_is_asked(world):
    for split in SPLITS:
        recordings = world.audio.recordings(split)
        numbers = []
        for task in SPOKEN_TASKS:
            for number in range(world.tasks(split)[task]):
                (audio,) = (media for media in world.dialogue(split, task, number).media if media.kind == "audio")
                numbers.append(audio.number)
                spoken = world.exchanges(split, task, number)[0].spoken
                assert (recordings[audio.number].text, recordings[audio.number].speaker) == (spoken.text, spoken.voice)
        assert numbers == list(range(len(recordings)))
    assert world.dialogue("val", "transcribe", 0).messages[0].text == TRANSCRIBE


def test_recordings_are_spoken_as_they_are_asked(world):
    plans = world.utterances("val")
    spoken = list(world.audio.samples("val", 0, 16_000))
    assert len(spoken) == len(plans) == 6
    for audio, again in zip(spoken, say(plans, 16_000), strict=True):
        np.testing.assert_array_equal(audio, again)
        assert audio.dtype == np.float32


def test_few_dialogues_are_of_all_tasks_in_turn():
    world = TinyWorldDialogues.few(7, 15, 2)
    assert world.tasks("train") == dict.fromkeys(TASKS, 1) | {"text": 2, "image_colour": 2}
    assert world.tasks("val") == world.tasks("test") == {"text": 1, "image_colour": 1}
    assert [len(world.audio.recordings(split)) for split in SPLITS] == [3, 0, 0]
    usual = TinyWorldDialogues.of(7, DialogueDataConfig())
    assert world.exchanges("train", "spoken_image", 0) == usual.exchanges("train", "spoken_image", 0)


def test_a_world_is_known_by_what_it_says_and_shows(world):
    others = [
        DialogueDataConfig(source="tinyworld:8", counts={"spoken": 3, "spoken_image": 2, "transcribe": 4}, num_eval_dialogues=8),
        DialogueDataConfig(source="tinyworld:7", counts={"spoken": 4, "spoken_image": 2, "transcribe": 4}, num_eval_dialogues=8),
    ]
    prints = [world.audio.fingerprint, *(open_dialogues(other, None).audio.fingerprint for other in others)]
    assert len(set(prints)) == 3
    shown = [TinyWorldDialogues(seed, {}, count).images("val").fingerprint for seed, count in ((7, 30), (7, 30), (8, 30), (7, 31))]
    assert shown[0] == shown[1]
    assert len(set(shown)) == 3


# Files


def test_media_are_numbered_in_each_split_by_first_use(corpus):
    corpus.add("b.png", "a.png", "What?", task="two", split="train")
    corpus.add("x.wav", "a.png", task="heard", split="train")
    corpus.add("y.wav", "x.wav", "b.png", task="two", split="train")
    corpus.add("a.png", "x.wav", "What?", task="two", split="test")
    found = corpus.open()
    assert (found.name, found.generated, found.kinds) == (str(corpus.folder), False, {"image", "audio"})
    train = {each.id: each for each in dialogues(found, "train")} | {each.id: each for each in dialogues(found, "val")}
    assert set(train) == {"line 1", "line 2", "line 3"}
    (test,) = dialogues(found, "test")
    assert test.messages[0].parts == (Media("image", 0), Media("audio", 0), "What?")
    assert (test.id, test.task, test.where, test.answer) == ("line 4", "two", f"{corpus.file}:4", "Yes.")
    assert found.file("test", Media("image", 0)) == corpus.folder.resolve() / "a.png"


def test_files_named_twice_are_one(corpus):
    for split in ("train", "val"):
        corpus.add("b.png", "a.png", split=split)
        corpus.add("x.wav", "./a.png", split=split)
        corpus.add("y.wav", "x.wav", "b.png", split=split)
    found = corpus.open()
    first, second, third = dialogues(found, "train")
    assert first.media == (Media("image", 0), Media("image", 1))
    assert second.media == (Media("audio", 0), Media("image", 1))
    assert third.media == (Media("audio", 1), Media("audio", 0), Media("image", 0))
    assert len(found.images("train")) == 2
    assert [recording.audio.name for recording in found.audio.recordings("train")] == ["x.wav", "y.wav"]
    recordings = list(found.audio.samples("train", 0, 16_000))
    assert [len(audio) for audio in recordings] == [1600, 1600]
    np.testing.assert_array_equal(found.images("train").image(1, 16), load_image(corpus.folder / "a.png", 16))
    assert found.images("train").image(0, 16).shape == (3, 16, 16)


def test_rows_about_one_image_stay_together(corpus):
    for number in range(60):
        for turn in range(2):
            corpus.add(f"{number}.png", f"Question {turn}?", id=f"{number}-{turn}")
    found = corpus.open(val_fraction=0.2, test_fraction=0.2)
    splits = [{each.id for each in dialogues(found, split)} for split in SPLITS]
    assert [len(each) for each in splits] == [76, 20, 24]
    for each in splits:
        assert {f"{name.split('-')[0]}-{turn}" for name in each for turn in (0, 1)} == each


def test_broken_images_are_set_aside_and_move_nothing(corpus):
    for number in range(40):
        corpus.add(f"{number}.png", "What?", id=str(number))
    before = corpus.open()
    places = {each.id: split for split in SPLITS for each in dialogues(before, split)}
    corpus.cut("3.png")
    corpus.cut("30.png")
    found = corpus.open()
    assert [(row.id, row.where) for row in found.broken] == [("3", f"{corpus.file}:4"), ("30", f"{corpus.file}:31")]
    assert found.broken[0].message.startswith(f"{corpus.folder}/3.png is cut off")
    after = {each.id: split for split in SPLITS for each in dialogues(found, split)}
    assert after == {name: split for name, split in places.items() if name not in ("3", "30")}
    assert sum(len(found.images(split)) for split in SPLITS) == 38


def test_rows_that_cannot_be_used_are_broken(corpus):
    corpus.add("What?")
    where = corpus.add("What?", split="dve")
    (row,) = corpus.open().broken
    assert (row.where, row.message) == (where, "the split is 'dve', expected one of train, val, test")


def test_recordings_that_cannot_be_read_are_told_when_they_are_heard(corpus):
    corpus.add("x.wav", split="train")
    corpus.add("y.wav", split="train")
    corpus.add("z.wav", split="val")
    corpus.cut("x.wav")
    found = corpus.open()
    assert list(found.broken) == []
    recordings = list(found.audio.samples("train", 0, 8_000))
    assert isinstance(recordings[0], DataError)
    assert len(recordings[1]) == 800
    (long,) = corpus.open(max_seconds=0.05).audio.samples("val", 0, 8_000)
    assert isinstance(long, DataError)


def test_files_are_known_by_size_and_time(corpus):
    corpus.add("a.png", "x.wav", split="train")
    corpus.add("b.png", "y.wav", split="val")
    before, again = corpus.open(), corpus.open()
    heard = before.audio.fingerprint
    assert heard == again.audio.fingerprint != corpus.open(max_seconds=3).audio.fingerprint
    shown = before.images("train").fingerprint
    assert shown == again.images("train").fingerprint != before.images("val").fingerprint
    for name in ("a.png", "x.wav"):
        (corpus.folder / name).write_bytes((corpus.folder / name).read_bytes() + b"\0\0")
    changed = corpus.open()
    assert changed.audio.fingerprint != heard
    assert changed.images("train").fingerprint != shown


def test_text_alone_has_no_media(corpus):
    corpus.add("What?", split="train")
    corpus.add("Who?", split="val")
    found = corpus.open()
    assert found.kinds == frozenset()
    assert (len(found.images("train")), found.audio.recordings("train")) == (0, [])


def test_real_images_and_recordings(test_data, tmp_path):
    corpus = Corpus(tmp_path)
    images = sorted((test_data / "cifar10_mini" / "train").glob("*/*.jpg"))[::400][:10]
    recordings = sorted((test_data / "fsdd" / "audio").glob("*.wav"))[::250][:10]
    for number, (image, audio) in enumerate(zip(images, recordings, strict=True)):
        for file, name in ((image, f"{number}.png"), (audio, f"{number}.wav")):
            (tmp_path / name).write_bytes(file.read_bytes())  # recognised by content, whatever the name
        corpus.add(f"{number}.png", "What is this?", said=image.parent.name, task="naming")
        corpus.add(f"{number}.wav", said=audio.name[0], task="hearing")
    found = corpus.open(val_fraction=0.1, test_fraction=0.1)
    assert list(found.broken) == []
    assert [sum(found.tasks(split).values()) for split in SPLITS] == [16, 2, 2]
    heard = [audio for split in SPLITS for audio in found.audio.samples(split, 0, 16_000)]
    assert len(heard) == 10
    assert not any(isinstance(audio, DataError) for audio in heard)
    assert all(found.images(split).image(n, 32).std() > 5 for split in SPLITS for n in range(len(found.images(split))))
