import logging

import pytest
from corpus_files import touch, write_lines

from omnictl.data.images.layouts import find_images
from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.errors import DataError

NAMES = 'names: ["cat", "dog"]'


def labels(manifest):
    return [(row.id, row.labels["label"], row.split) for row in manifest.rows]


def one_image(folder, *lines, names=NAMES):
    """A folder of an image with these lines, and of another that is a cat."""
    touch(folder, "images/a.jpg", "images/b.jpg")
    write_lines(folder / "labels" / "a.txt", *lines)
    write_lines(folder / "labels" / "b.txt", "0 0.5 0.5 0.1 0.1")
    return write_lines(folder / "data.yaml", names)


@pytest.mark.parametrize("form", ["{split}/images/{name}", "images/{split}/{name}", "{split}/{name}"])
def test_labels_beside_images_or_in_a_folder_of_their_own(tmp_path, form):
    for split in ("train", "valid"):
        for number, name in enumerate(("a", "b")):
            image = form.format(split=split, name=name)
            touch(tmp_path, f"{image}.jpg")
            write_lines(tmp_path / f"{image.replace('images', 'labels')}.txt", f"{number} 0.5 0.5 0.2 0.2")
    write_lines(tmp_path / "data.yaml", "train: ../train/images", "nc: 2", "names:", "  0: cat", "  1: dog")
    assert find_kind(str(tmp_path)) == "images"
    assert sorted(labels(find_images(tmp_path))) == sorted(
        (f"{form.format(split=folder, name=name)}.jpg", label, split)
        for folder, split in (("train", "train"), ("valid", "val"))
        for name, label in (("a", "cat"), ("b", "dog"))
    )


def test_folders_that_the_config_calls_splits(tmp_path):
    for folder in ("first", "second"):
        touch(tmp_path, f"images/{folder}/a.jpg")
        write_lines(tmp_path / "labels" / folder / "a.txt", "1 0.5 0.5 0.2 0.2")
    write_lines(tmp_path / "data.yaml", "path: ../x", "train: images/first", "val: [images/second]", NAMES)
    assert labels(find_images(tmp_path)) == [("images/first/a.jpg", "dog", "train"), ("images/second/a.jpg", "dog", "val")]


@pytest.mark.parametrize("name", ["classes.txt", "obj.names", "labels/classes.txt"])
def test_names_a_line(tmp_path, name):
    one_image(tmp_path, "1 0.5 0.5 0.2 0.2").unlink()
    write_lines(tmp_path / name, "cat", "dog")
    assert labels(find_images(tmp_path)) == [("images/a.jpg", "dog", None), ("images/b.jpg", "cat", None)]


def test_what_covers_most_is_the_label(tmp_path, caplog):
    """Boxes of 0.04 and 0.04 for the cat against a triangle of 0.045 and one of 0.03 less than that."""
    one_image(tmp_path, "0 0.1 0.1 0.2 0.2", "1 0.0 0.0 0.3 0.0 0.0 0.3", "0 0.9 0.9 0.2 0.2", "", "1 0.1 0.1 0.3 0.1")
    touch(tmp_path, "images/nothing.jpg", "images/empty.jpg", "labels/empty.txt")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert labels(find_images(tmp_path))[0] == ("images/a.jpg", "cat", None)
    assert caplog.messages == [
        f"{tmp_path}: 1 of 2 images show objects of several categories; each is labelled with the one that covers most of it",
        f"{tmp_path}: 2 images have no object, and are passed over",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "there is no category 2: data.yaml has the names of 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "there is no category 0.5: data.yaml has the names of 0 to 1"),
        ("0 0.5 0.5 0.1", "found 4 numbers, expected class x y width height, or a class and the points of a polygon"),
        ("0 320 240 64 48", "places should be shares of the image from 0 to 1, not pixels"),
        ("cat 0.5 0.5 0.1 0.1", "found 'cat 0.5 0.5 0.1 0.1', expected numbers: class x y width height"),
        ("0 nan 0.5 0.1 0.1", "places should be shares of the image from 0 to 1, not pixels"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, line, message):
    one_image(tmp_path, "0 0.5 0.5 0.1 0.1", line)
    manifest = find_images(tmp_path)
    assert labels(manifest) == [("images/b.jpg", "cat", None)]
    assert [tuple(row) for row in manifest.broken] == [("images/a.jpg", f"{tmp_path}/labels/a.txt:2", message)]


def test_labels_without_an_image_are_named(tmp_path):
    one_image(tmp_path, "0 0.5 0.5 0.1 0.1")
    write_lines(tmp_path / "labels" / "classes.txt", "cat", "dog")
    (tmp_path / "images" / "a.jpg").unlink()
    assert [tuple(row) for row in find_images(tmp_path).broken] == [
        ("labels/a.txt", f"{tmp_path}/labels/a.txt", "there is no image that these labels are of")
    ]


@pytest.mark.parametrize("names", ["nc: 2", "names: []", "names: {1: dog}"])
def test_a_config_without_names(tmp_path, names):
    file = one_image(tmp_path, "0 0.5 0.5 0.1 0.1", names=names)
    with pytest.raises(DataError) as error:
        find_images(tmp_path)
    assert (error.value.message, error.value.fix) == (
        f"{file} has no list of names",
        "write names: [cat, dog], or names: {0: cat, 1: dog}",
    )


def test_a_list_of_classes_beside_class_folders_is_only_a_list(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    write_lines(tmp_path / "classes.txt", "cat", "dog")
    assert [row.labels["label"] for row in find_images(tmp_path).rows] == ["cat", "dog"]


def test_what_a_mac_writes_beside_labels_is_passed_over(tmp_path):
    one_image(tmp_path, "1 0.5 0.5 0.2 0.2")
    touch(tmp_path, "labels/._a.txt", "__MACOSX/labels/._a.txt", "__MACOSX/images/._a.jpg", ".cache/labels/a.txt")
    manifest = find_images(tmp_path)
    assert labels(manifest) == [("images/a.jpg", "dog", None), ("images/b.jpg", "cat", None)]
    assert manifest.broken == ()
