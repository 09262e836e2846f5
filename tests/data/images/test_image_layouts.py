import json

import pytest
from corpus_files import refusal, touch, write_lines

from omnictl.data.images.layouts import RECOGNISED, find_images


def make_manifest(folder, name="metadata.csv"):
    touch(folder, "images/a.png")
    if name.endswith(".csv"):
        return write_lines(folder / name, "image,label", "images/a.png,cat")
    return write_lines(folder / name, json.dumps({"image": "images/a.png", "label": "cat"}))


def make_classes(folder):
    touch(folder, "cat/1.jpg", "dog/1.jpg")


def make_coco(folder):
    touch(folder, "train2017/1.jpg", "val2017/2.jpg")
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "A cat."}]}
    return write_lines(folder / "annotations" / "captions_train2017.json", json.dumps(content))


def error_of(path):
    return refusal(find_images, path)


def made(manifest):
    assert manifest.broken == ()
    return [(row.id, dict(row.labels), row.caption, row.split) for row in manifest.rows]


# Layouts


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "manifest.csv", "manifest.jsonl"])
def test_a_folder_with_a_manifest(tmp_path, name):
    """Its images may lie in folders, which are no classes then."""
    path = make_manifest(tmp_path, name)
    make_classes(tmp_path)
    touch(tmp_path, "loose.png")
    manifest = find_images(tmp_path)
    assert made(manifest) == [("images/a.png", {"label": "cat"}, None, None)]
    assert manifest == find_images(path)


def test_a_manifest_with_the_line_ends_of_old_macs(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_bytes(b"image,label\ra.png,cat\r")
    assert made(find_images(tmp_path)) == [("a.png", {"label": "cat"}, None, None)]


def test_class_folders(tmp_path):
    make_classes(tmp_path)
    assert made(find_images(tmp_path)) == [("cat/1.jpg", {"label": "cat"}, None, None), ("dog/1.jpg", {"label": "dog"}, None, None)]


def test_class_folders_in_splits(tmp_path):
    make_classes(tmp_path / "train")
    make_classes(tmp_path / "valid")
    assert [row[3] for row in made(find_images(tmp_path))] == ["train", "train", "val", "val"]


def test_coco(tmp_path):
    make_coco(tmp_path)
    assert made(find_images(tmp_path)) == [("train2017/1.jpg", {}, "A cat.", "train")]


def test_a_table_of_something_else_does_not_stand_in_the_way(tmp_path):
    make_classes(tmp_path)
    write_lines(tmp_path / "metadata.csv", "name,licence", "x,y")
    assert len(find_images(tmp_path).rows) == 2


@pytest.mark.parametrize(("name", "count"), [("cifar10_mini", 6000), ("openmoji", 2465)])
def test_real_folders(test_data, name, count):
    assert len(made(find_images(test_data / name))) == count


# Errors


def test_missing_folder(tmp_path):
    error = error_of(tmp_path / "none")
    assert error.message == f"no such file or folder: {tmp_path / 'none'}"
    assert error.fix == "check the path given to --data"


def test_no_layout(tmp_path):
    touch(tmp_path, "notes.txt", "words/a.txt")
    error = error_of(tmp_path)
    assert error.message == f"{tmp_path} has no layout of images that is known\nRecognised are\n{RECOGNISED}"
    assert error.where == str(tmp_path)
    assert error.fix == "write a manifest, or give --data the folder that directly holds one of these"


def test_two_layouts(tmp_path):
    index, first, second = make_coco(tmp_path), make_manifest(tmp_path), make_manifest(tmp_path, "manifest.jsonl")
    error = error_of(tmp_path)
    assert error.message == (
        f"{tmp_path} has 3 layouts at once: manifest ({first}) and manifest ({second}) and COCO captions ({index})"
        f"\nRecognised are\n{RECOGNISED}"
    )
    assert error.fix == "give --data the manifest file that is meant, or move one of them elsewhere"


@pytest.mark.parametrize("names", [["a.jpg"], ["images/a.jpg"], ["cat/1.jpg", "dog/1.jpg"], []])
def test_a_manifest_that_calls_its_images_otherwise(tmp_path, names):
    touch(tmp_path, *names)
    path = write_lines(tmp_path / "metadata.csv", "file_name,text", "a.jpg,A cat.")
    error = error_of(tmp_path)
    assert (error.where, error.fix) == (f"{path}:1", "rename the column 'file_name' to 'image'")


@pytest.mark.parametrize("names", [["a.jpg"], ["images/a.jpg"], []])
def test_a_manifest_without_images(tmp_path, names):
    touch(tmp_path, *names)
    path = write_lines(tmp_path / "metadata.csv", "name,label", "a.jpg,cat")
    error = error_of(tmp_path)
    assert error.message == "no column 'image' (found 'name', 'label')"
    assert error.where == f"{path}:1"


def test_images_in_no_class_folder(tmp_path):
    touch(tmp_path, "a.jpg")
    assert error_of(tmp_path).message == f"{tmp_path} has images in no class folder: a.jpg"


def test_one_class_alone(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg")
    assert error_of(tmp_path).message == f"{tmp_path} has one class folder alone: images"
