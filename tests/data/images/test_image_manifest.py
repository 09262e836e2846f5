import pytest
from corpus_files import only_broken, refusal, touch, write_lines, write_rows

from omnictl.data.images.manifest import ImageRow, read_manifest
from omnictl.data.manifest.rows import BrokenRow


@pytest.fixture
def folder(tmp_path):
    """A corpus folder with five images, whose content nobody looks at."""
    corpus = tmp_path / "corpus"
    touch(corpus, *(f"images/{letter}.png" for letter in "abcde"))
    return corpus


def write_csv(folder, *lines):
    return write_lines(folder / "metadata.csv", *lines)


def write_jsonl(folder, *values):
    return write_rows(folder / "metadata.jsonl", *values)


def error_of(path):
    return refusal(read_manifest, path)


def broken_csv(folder, line, header="image,label,caption,split"):
    """The row that a line becomes, below one that is fine."""
    fine = ",".join(["images/e.png", "fine", "fine", "train"][: header.count(",") + 1])
    return only_broken(read_manifest(write_csv(folder, header, fine, line)))


def broken_jsonl(folder, value):
    return only_broken(read_manifest(write_jsonl(folder, {"image": "images/e.png", "label": "fine"}, value)))


def labels_of(folder, label):
    row = {"image": "images/a.png", "caption": "something", "label": label}
    return read_manifest(write_jsonl(folder, row)).rows[0].labels


# Rows


def test_csv_rows(folder):
    path = write_csv(
        folder,
        "split,caption,licence,image,label",
        'train,"A cat, asleep. ",CC0,images/a.png, cat ',
        ",Two dogs.,,./images//b.png,",
        "dev,,,images/c.png,7",
    )
    manifest = read_manifest(path)
    images = folder.resolve() / "images"
    assert manifest.folder == folder.resolve()
    assert manifest.rows == (
        ImageRow("images/a.png", images / "a.png", {"label": "cat"}, "A cat, asleep.", "train", f"{path}:2"),
        ImageRow("images/b.png", images / "b.png", {}, "Two dogs.", None, f"{path}:3"),
        ImageRow("images/c.png", images / "c.png", {"label": "7"}, None, "val", f"{path}:4"),
    )
    assert manifest.broken == ()


def test_jsonl_rows(folder):
    path = write_jsonl(
        folder,
        {"image": "images/a.png", "caption": "A cat.", "label": "cat", "tags": ["pet"], "subgroup": {"x": 1}, "split": "test"},
        "",
        {"label": {"shape": "ring", "colour": "red"}, "image": "images/b.png", "caption": None, "split": None},
        {"image": "images/c.png", "caption": "A ring.", "label": None},
    )
    images = folder.resolve() / "images"
    assert read_manifest(path).rows == (
        ImageRow("images/a.png", images / "a.png", {"label": "cat"}, "A cat.", "test", f"{path}:1"),
        ImageRow("images/b.png", images / "b.png", {"shape": "ring", "colour": "red"}, None, None, f"{path}:3"),
        ImageRow("images/c.png", images / "c.png", {}, "A ring.", None, f"{path}:4"),
    )


@pytest.mark.parametrize(
    ("header", "line", "labels", "caption"),
    [("image,label", "images/a.png,cat", {"label": "cat"}, None), ("caption,image", "A cat.,images/a.png", {}, "A cat.")],
)
def test_a_label_or_a_caption_is_enough(folder, header, line, labels, caption):
    row = read_manifest(write_csv(folder, header, line)).rows[0]
    assert (row.labels, row.caption) == (labels, caption)


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ("cat", {"label": "cat"}),
        (7, {"label": "7"}),
        (0.5, {"label": "0.5"}),
        (True, {"label": "true"}),
        ("", {}),
        (None, {}),
        ({}, {}),
        (
            {"digit": 7, "round": False, "size": 1.5, "ink": " blue "},
            {"digit": "7", "round": "false", "size": "1.5", "ink": "blue"},
        ),
        ({"shape": "ring", "colour": None}, {"shape": "ring"}),  # null: nobody looked
    ],
)
def test_labels(folder, written, labels):
    assert labels_of(folder, written) == labels


def test_an_image_that_comes_again_has_a_number(folder):
    lines = ["images/a.png,one", "images/a.png,two", "./images/a.png,three", "images/b.png,four"]
    manifest = read_manifest(write_csv(folder, "image,caption", *lines))
    assert [row.id for row in manifest.rows] == ["images/a.png", "images/a.png#2", "images/a.png#3", "images/b.png"]
    assert len({row.file for row in manifest.rows}) == 2


# Broken rows


@pytest.mark.parametrize(
    ("line", "identity", "message"),
    [
        ("images/a.png,,,train", "images/a.png", "there is neither a label nor a caption"),
        ("images/a.png, ,  ,train", "images/a.png", "there is neither a label nor a caption"),
    ],
)
def test_broken_csv_row(folder, line, identity, message):
    where = f"{folder / 'metadata.csv'}:3"
    assert broken_csv(folder, line) == BrokenRow(identity or where, where, message)


@pytest.mark.parametrize(
    ("value", "identity", "message"),
    [
        ('{"image": "images/a.png"', None, "broken JSON: Expecting ',' delimiter: line 1 column 25 (char 24)"),
        ('["a"]', None, "an object was expected, found a list"),
        ({"file_name": "images/a.png", "label": "cat"}, None, "no key 'image' (found 'file_name', 'label'); rename 'file_name'"),
        (
            {"image": "images/a.png", "text": "A cat."},
            "images/a.png",
            "no key 'label' or 'caption' (found 'image', 'text'); rename 'text' to 'caption'",
        ),
        (
            {"image": "images/a.png", "class": "cat"},
            "images/a.png",
            "no key 'label' or 'caption' (found 'image', 'class'); rename 'class' to 'label'",
        ),
        ({"image": "images/a.png", "tags": []}, "images/a.png", "no key 'label' or 'caption' (found 'image', 'tags')"),
        ({"image": "images/a.png", "label": {"hue": None}}, "images/a.png", "there is neither a label nor a caption"),
        ({"image": 5, "label": "cat"}, None, "the image path should be a string, found a number"),
        ({"image": ["a"], "label": "cat"}, None, "the image path should be a string, found a list"),
        (
            {"image": "images/a.png", "label": ["cat", "dog"]},
            "images/a.png",
            "the label should be a string or an object of named attributes, found a list",
        ),
        (
            {"image": "images/a.png", "label": {"colour": {"main": "red"}}},
            "images/a.png",
            "the label 'colour' should be a string, found an object",
        ),
        (
            {"image": "images/a.png", "label": {"colour": ["red"]}},
            "images/a.png",
            "the label 'colour' should be a string, found a list",
        ),
        ({"image": "images/a.png", "label": {"colour": ""}}, "images/a.png", "the label 'colour' is empty"),
        ({"image": "images/a.png", "label": {"": "red"}}, "images/a.png", "the name of a label is empty"),
        (
            {"image": "images/a.png", "label": {" hue": "red"}},
            "images/a.png",
            "the name of the label ' hue' has white space around it",
        ),
        ('{"image": "images/a.png", "label": NaN}', "images/a.png", "the label is nan"),
        ('{"image": "images/a.png", "label": {"size": -Infinity}}', "images/a.png", "the label 'size' is -inf"),
        ({"image": "images/a.png", "caption": 5}, "images/a.png", "the caption should be a string, found a number"),
        (
            {"image": "images/a.png", "label": "cat", "caption": ["a"]},
            "images/a.png",
            "the caption should be a string, found a list",
        ),
        (
            {"image": "images/a.png", "caption": "a\ud800"},
            "images/a.png",
            "the caption holds half a character (a lone surrogate) at position 1",
        ),
        (
            {"image": "images/a.png", "label": {"a\ud800": "x"}},
            "images/a.png",
            "the name of a label holds half a character (a lone surrogate) at position 1",
        ),
        ({"image": "images/a.png", "label": "cat", "split": 1}, "images/a.png", "the split should be a string, found a number"),
    ],
)
def test_broken_jsonl_row(folder, value, identity, message):
    where = f"{folder / 'metadata.jsonl'}:2"
    assert broken_jsonl(folder, value) == BrokenRow(identity or where, where, message)


# Files


@pytest.mark.parametrize(
    ("header", "message", "fix"),
    [
        ("file_name,label", "no column 'image' (found 'file_name', 'label')", "rename the column 'file_name' to 'image'"),
        ("Image,label", "no column 'image' (found 'Image', 'label')", "rename the column 'Image' to 'image'"),
        ("image,text", "no column 'label' or 'caption' (found 'image', 'text')", "rename the column 'text' to 'caption'"),
        ("image,Class", "no column 'label' or 'caption' (found 'image', 'Class')", "rename the column 'Class' to 'label'"),
        ("image,captoin", "no column 'label' or 'caption' (found 'image', 'captoin')", "rename the column 'captoin' to 'caption'"),
        (
            "image",
            "no column 'label' or 'caption' (found 'image')",
            "start the file with a line that names its columns, 'label' or 'caption' among them",
        ),
        (
            "images/a.png,cat",
            "no column 'image' (found 'images/a.png', 'cat')",
            "start the file with a line that names its columns, 'image' among them",
        ),
        ("image|label", "no column 'image' (found 'image|label')", "separate the columns by commas, semicolons or tabs"),
        ("image,label,caption,caption", "two columns are called 'caption'", "keep one of them"),
        ("image,image,label", "two columns are called 'image'", "keep one of them"),
    ],
)
def test_header(folder, header, message, fix):
    error = error_of(write_csv(folder, header, "images/a.png,cat"))
    assert (error.message, error.where, error.fix) == (message, f"{folder / 'metadata.csv'}:1", fix)


# Real data


def test_real_manifest(test_data):
    manifest = read_manifest(test_data / "openmoji" / "metadata.jsonl")
    assert manifest.broken == ()
    assert len(manifest.rows) == len({row.id for row in manifest.rows}) == 2465
    assert {split: sum(row.split == split for row in manifest.rows) for split in ("train", "test")} == {"train": 2219, "test": 246}
    assert len({row.labels["label"] for row in manifest.rows}) == 12
    assert manifest.rows[0].labels == {"label": "smileys-emotion"}
    assert manifest.rows[0].caption == "grinning face"
