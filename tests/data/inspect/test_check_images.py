import logging

import numpy as np
import pytest
from corpus_files import append_row, cut_end, kinds_and_places
from PIL import Image

from omnictl import progress
from omnictl.data.images.corpus import ImageDataConfig
from omnictl.data.images.source import open_images
from omnictl.data.images.tinyworld import TinyWorldImages
from omnictl.data.inspect import image_files
from omnictl.data.inspect.images import check_images, measure_images


class Corpus:
    """A manifest that grows row by row, and its images: noise, no two alike."""

    def __init__(self, folder):
        self.folder, self.manifest = folder, folder / "metadata.jsonl"
        self._rng = np.random.default_rng(0)
        self._num_rows = 0

    def __str__(self):
        return str(self.folder)

    def add(self, label="cat", *, size=(20, 20), name=None, pixels=None, **fields):
        """Writes an image unless it is there, and its row, of the training split if none is named; returns where it stands."""
        self._num_rows += 1
        path = self.folder / (name or f"{self._num_rows}.png")
        if not path.exists():
            noise = self._rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(noise if pixels is None else pixels).save(path)
        return self.write({"image": path.name, "label": label, "split": "train", **fields})

    def write(self, row):
        return append_row(self.manifest, row)

    def cut(self, name):
        """Takes the end off an image; its headers stay whole."""
        cut_end(self.folder / name)


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


def warnings_of(corpus, kind):
    return [problem for problem in check_images(str(corpus)).warnings if problem.kind == kind]


def test_how_much_there_is(corpus):
    corpus.add(size=(20, 30), caption="a cat", name="a.jpg")
    corpus.add({"kind": "cat", "legs": 4}, size=(60, 20))
    corpus.add({"kind": "dog", "legs": None}, size=(40, 40), split="val")
    corpus.add(None, caption="a cat that sleeps", name="a.jpg", split="train")
    corpus.add({"kind": "cat"}, split="test", caption="a cat")
    report = measure_images(str(corpus))
    assert (report.broken, report.warnings, report.error()) == ([], (), None)
    assert (report.kind, report.unit, report.total, report.num_broken) == ("images", "rows", 5, 0)
    assert report.summary == {
        "splits": {
            "train": {"pictures": 2, "labelled": 2, "captions": 2},
            "val": {"pictures": 1, "labelled": 1, "captions": 0},
            "test": {"pictures": 1, "labelled": 1, "captions": 1},
        },
        "labels": {"kind": {"cat": 2, "dog": 1}, "label": {"cat": 1}, "legs": {"4": 1}},
        "words_per_caption_mean": pytest.approx(8 / 3),
        "shorter_side_pixels_min": 20,
        "shorter_side_pixels_median": 20,
        "shorter_side_pixels_max": 40,
        "longer_side_pixels_min": 20,
        "longer_side_pixels_median": 35,
        "longer_side_pixels_max": 60,
        "pictures_by_format": {"PNG": 3, "JPEG": 1},
    }


def test_class_folders(tmp_path):
    for number, name in enumerate(("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "test/cat/1.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / name)
    (tmp_path / "test" / "cat" / "2.png").write_text("no image")
    report = check_images(str(tmp_path))
    assert kinds_and_places(report.broken) == [("image", str(tmp_path / "test" / "cat" / "2.png"))]
    assert (report.total, report.summary["labels"]) == (5, {"label": {"cat": 3, "dog": 1}})


# What is broken


def test_each_broken_row_is_named(corpus):
    for _ in range(5):
        corpus.add()
    places = [
        corpus.write({"image": "nowhere.png", "label": "cat"}),
        corpus.add(name="cut.png"),
        corpus.add("dog", split="test"),
        corpus.add({"age": 3}, split="val"),
        corpus.add(None, name="cut.png", caption="A cat."),
    ]
    corpus.cut("cut.png")
    report = check_images(str(corpus))
    missing, cut, again, age, dog = report.broken
    assert kinds_and_places(report.broken) == [
        ("row", places[0]),
        ("image", places[1]),
        ("image", places[4]),
        ("label", places[3]),
        ("label", places[2]),
    ]
    assert missing.message == f"no such image file: {corpus.folder / 'nowhere.png'}"
    assert cut.message.startswith(f"{corpus.folder / 'cut.png'} is cut off")
    assert again.message == cut.message
    assert age.message == "the attribute 'age' is in no row of the training split"
    assert dog.message == "the label 'dog' is in no row of the training split"
    assert (report.total, report.num_broken, report.warnings) == (10, 5, [])
    error = report.error()
    assert error.message.startswith(f"5 of 10 rows are broken:\n{places[0]}: no such image file")
    assert error.fix.startswith("mend these rows or take them out; training sets them aside")


def test_damage_that_only_decoding_shows(corpus):
    corpus.add()
    where = corpus.add(name="damaged.gif", size=(40, 40))
    data = bytearray((corpus.folder / "damaged.gif").read_bytes())
    data[13 + 768 + 10] = 255  # of the size of the codes
    (corpus.folder / "damaged.gif").write_bytes(data)
    broken = check_images(str(corpus)).broken
    assert kinds_and_places(broken) == [("image", where)]
    assert measure_images(str(corpus)).broken == []


def test_the_broken_are_those_that_training_sets_aside(corpus, tmp_path_factory):
    for number in range(40):
        corpus.add(f"{number % 7}", split=None)
    for number in range(30):
        label = f"{number % 10}"
        corpus.add({"label": label, "odd": True} if number > 26 else label, split="val" if number % 2 else "test")
    corpus.cut("3.png")
    corpus.cut("50.png")
    files = open_images(ImageDataConfig(source=str(corpus)), tmp_path_factory.mktemp("cache"))
    sets = [files.images(split, "labels", files.attributes) for split in ("train", "val", "test")]
    expected = {(row.where, row.message) for row in [*files.broken, *(row for found in sets for row in found.set_aside)]}
    report = check_images(str(corpus))
    assert {(problem.where, problem.message) for problem in report.broken} == expected
    assert [size["pictures"] for size in report.summary["splits"].values()] == [len(each) + len(each.set_aside) for each in sets]


def test_labels_are_compared_with_all_of_the_training_split(corpus):
    """Also with what a limit leaves out."""
    for label in ("cat", "cat", "dog"):
        corpus.add(label)
    corpus.add("cat", split="val")
    corpus.add("dog", split="test")
    report = check_images(str(corpus), limit=1)
    assert report.broken == []
    assert [size["pictures"] for size in report.summary["splits"].values()] == [1, 1, 1]
    assert report.total == 3


def test_without_labels_to_learn_no_label_is_broken(corpus):
    corpus.add(None, caption="A cat.")
    corpus.add("dog", split="test")
    assert check_images(str(corpus)).broken == []


def test_nothing_but_broken_images(corpus):
    corpus.add(name="one.png")
    corpus.cut("one.png")
    report = check_images(str(corpus))
    assert (report.total, report.num_broken) == (1, 1)
    assert "shorter_side_pixels_min" not in report.summary


# What looks wrong


def test_an_image_in_two_splits_whatever_its_file(corpus):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    test = corpus.add(name="a.png", pixels=pixels, split="test")
    train = corpus.add(name="b.bmp", pixels=pixels)
    corpus.add(name="b.bmp")
    val = corpus.add(name="b.bmp", split="val")
    corpus.add(name="b.bmp", split="val")
    corpus.add(name="turned.png", pixels=pixels.reshape(24, 16, 3), split="test")
    warnings = warnings_of(corpus, "duplicate")
    assert [problem.where for problem in warnings] == [val, test]
    assert warnings[1].message == f"the same image is in the train split, this one in test: {train}"


def test_an_image_under_two_labels(corpus):
    first = corpus.add({"kind": "cat", "colour": "red"}, name="a.png")
    corpus.add({"kind": "cat"}, name="a.png")
    where = corpus.add({"kind": "dog", "size": "big"}, name="a.png")
    corpus.add({"kind": "dog"}, name="a.png", split="test")
    (warning,) = warnings_of(corpus, "conflict")
    assert warning.where == where
    assert warning.message == f"the kind of this image is 'dog' here and 'cat' there: {first}"


def test_small_images(corpus):
    corpus.add(size=(16, 16))
    where = corpus.add(size=(200, 15), name="small.png")
    corpus.add(name="small.png")
    (warning,) = warnings_of(corpus, "small")
    assert (warning.where, warning.message) == (where, "200 × 15 pixels: fewer than 16 a side show hardly anything")


def test_values_that_few_images_have(corpus):
    for label in ["cat"] * 5 + ["dog"] * 4 + ["emu"]:
        corpus.add(label)
    corpus.add("dog", split="val")
    corpus.add("dog", split="test")
    (warning,) = warnings_of(corpus, "rare")
    assert (warning.id, warning.where) == ("label", str(corpus))
    assert warning.message == "2 of 3 values of 'label' are in fewer than 5 training rows: 'emu' (1), 'dog' (4)"


def test_many_rare_values_are_one_warning(corpus):
    for number in range(8):
        corpus.add(f"{number}")
    corpus.add("0", split="val")
    (warning,) = warnings_of(corpus, "rare")
    assert warning.message.endswith("'7' (1), '6' (1), '5' (1), '4' (1), '3' (1) and 3 more")


def test_an_attribute_that_most_rows_lack(corpus):
    for number in range(5):
        corpus.add({"kind": "cat"} | ({"age": 3} if number < 2 else {}) | ({"size": "big"} if number < 3 else {}))
    corpus.add(None, caption="A cat.")
    corpus.add({"kind": "cat"}, split="val")
    (warning,) = warnings_of(corpus, "missing")
    assert (warning.id, warning.message) == ("age", "3 of the 5 training rows with labels lack the attribute 'age'")


# How it looks


def test_splits_are_those_of_training_whatever_is_broken(corpus, tmp_path):
    for number in range(100):
        corpus.add(split=None, name=f"{number}.png")
    before = open_images(ImageDataConfig(source=str(corpus)), tmp_path / "cache").images("test", "labels", {"label": ("cat",)})
    for number in range(0, 100, 9):
        corpus.cut(f"{number}.png")
    files = open_images(ImageDataConfig(source=str(corpus)), tmp_path / "cache")
    sets = [files.images(split, "labels", files.attributes) for split in ("train", "val", "test")]
    splits = check_images(str(corpus)).summary["splits"].values()
    assert [size["pictures"] for size in splits] == [len(found) for found in sets]
    assert {row.id for row in sets[2].rows} <= {row.id for row in before.rows}


def test_an_image_of_many_rows_is_read_once(corpus, monkeypatch):
    read = []
    monkeypatch.setattr(image_files, "read_image", lambda path: read.append(path.name) or np.zeros((20, 20, 3), np.uint8))
    for caption in ("a cat", "an animal", "something asleep"):
        corpus.add(None, caption=caption, name="a.png")
    report = check_images(str(corpus))
    assert read == ["a.png"]
    assert report.summary["splits"]["train"] == {"pictures": 1, "labelled": 0, "captions": 3}
    assert report.warnings == []


def test_headers_say_the_same_without_decoding(corpus, monkeypatch):
    for number, suffix in enumerate(("png", "jpg", "webp", "gif", "bmp")):
        corpus.add(name=f"{number}.{suffix}", size=(20 + number, 30))
    checked = check_images(str(corpus))
    monkeypatch.delattr(image_files, "read_image")
    assert measure_images(str(corpus)).summary == checked.summary


def test_tinyworld_is_drawn():
    report = check_images("tinyworld:7", limit=6)
    world = TinyWorldImages(7, 12, ())
    rows = [world.images(split, "labels", {}).row(index) for split in ("train", "val", "test") for index in range(6)]
    assert (report.source, report.total, report.broken, report.warnings) == ("tinyworld:7", 18, [], [])
    assert report.summary["pictures_by_format"] == {"drawn": 18}
    assert sum(report.summary["labels"]["shape"].values()) == 18
    assert report.summary["words_per_caption_mean"] == np.mean([len(row.caption.split()) for row in rows])


def test_progress_is_told(corpus, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_NOTES", -1.0)
    corpus.add()
    corpus.add()
    with caplog.at_level(logging.INFO, logger="omnictl"):
        check_images(str(corpus))
    assert [record.message for record in caplog.records] == [f"checking images: {number} of 2, 0 s left" for number in (1, 2)]
