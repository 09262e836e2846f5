import json
import logging

import pytest
from corpus_files import touch

from omnictl.data.images.annotations import coco_index
from omnictl.data.images.layouts import find_images
from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.data.manifest import tables
from omnictl.errors import DataError

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 17, "name": "dog"}]


def marked(image_id, category, box=(0, 0, 10, 10), **others):
    return {"image_id": image_id, "category_id": category, "bbox": list(box), **others}


def write(index, annotations, names=("1.jpg", "2.jpg", "3.jpg"), images="train2017", categories=CATEGORIES):
    """An index, and its images in a folder beside its own, or beside itself."""
    index.parent.mkdir(parents=True, exist_ok=True)
    touch(index.parent.parent / images if index.parent.name == "annotations" else index.parent, *names)
    rows = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    index.write_text(json.dumps({"images": rows, "annotations": annotations, "categories": categories}))
    return index


def labels(manifest):
    return [(row.id, dict(row.labels), row.split) for row in manifest.rows]


def test_an_image_is_called_what_covers_most_of_it(tmp_path, caplog):
    """Two small cats cover more than one dog; an area that is given counts before that of the box."""
    objects = [
        marked(1, 17, (0, 0, 10, 11)),
        marked(1, 1, (0, 0, 10, 6)),
        marked(1, 1, (20, 20, 10, 6)),
        marked(2, 1, (0, 0, 90, 90), area=30.5),
        marked(2, 17, (0, 0, 9, 9), iscrowd=1),
    ]
    train = write(tmp_path / "annotations" / "instances_train2017.json", objects)
    write(tmp_path / "annotations" / "instances_val2017.json", [marked(1, 17)], ("1.jpg",), "val2017")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert labels(find_images(tmp_path)) == [
            ("train2017/1.jpg", {"label": "cat"}, "train"),
            ("train2017/2.jpg", {"label": "dog"}, "train"),
            ("val2017/1.jpg", {"label": "dog"}, "val"),
        ]
    assert find_kind(str(tmp_path)) == find_kind(str(train)) == "images"
    assert caplog.messages == [
        f"{train}: 2 of 2 images show objects of several categories; each is labelled with the one that covers most of it",
        f"{train}: 1 images have no object, and are passed over",
    ]


def test_one_index_alone_has_no_splits(tmp_path):
    index = write(tmp_path / "annotations" / "instances_train2017.json", [marked(1, 1), marked(2, 17)])
    named = find_images(index)
    assert labels(named) == [("train2017/1.jpg", {"label": "cat"}, None), ("train2017/2.jpg", {"label": "dog"}, None)]
    assert find_images(tmp_path).rows == named.rows


def test_folders_of_splits_with_an_index_each(tmp_path):
    for split in ("train", "valid"):
        write(tmp_path / split / "_annotations.coco.json", [marked(1, 1), marked(3, 17)])
    assert labels(find_images(tmp_path)) == [
        (f"{folder}/{name}.jpg", {"label": label}, split)
        for folder, split in (("train", "train"), ("valid", "val"))
        for name, label in ((1, "cat"), (3, "dog"))
    ]


def test_captions_come_first_and_the_categories_beside_them_are_named(tmp_path, caplog):
    index = write(tmp_path / "annotations" / "instances_train2017.json", [marked(1, 1)])
    captions = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "A cat."}]}
    (index.parent / "captions_train2017.json").write_text(json.dumps(captions))
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert [row.caption for row in find_images(tmp_path).rows] == ["A cat."]
    assert f"for the categories of its objects, name {index}" in caplog.text


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (marked(9, 1), "there is no image with the id 9"),
        (marked(1, 2), "there is no category with the id 2"),
        (marked(1, 1, (0, 0, 10)), "it has no area: expected bbox, [x, y, width, height], or area"),
        (marked(1, 1, (0, 0, 0, 10)), "it has no area: expected bbox, [x, y, width, height], or area"),
        ({"image_id": 1, "bbox": [0, 0, 1, 1]}, "no key 'category_id' (found 'image_id', 'bbox')"),
        ({"image_id": 1, "category_id": [1]}, "there is no category with the id [1]"),
    ],
)
def test_broken_annotations(tmp_path, annotation, message):
    index = write(tmp_path / "instances_all.json", [marked(1, 1), annotation])
    manifest = find_images(tmp_path)
    assert (len(manifest.rows), [(row.where, row.message) for row in manifest.broken]) == (
        1,
        [(f"{index}: annotation 2", message)],
    )


@pytest.mark.parametrize(
    ("categories", "message"),
    [(None, "'categories' should be a list, found null"), ([{"id": 1}], "no key 'name' (found 'id')")],
)
def test_categories_without_names(tmp_path, categories, message):
    write(tmp_path / "instances_all.json", [marked(1, 1)], categories=categories)
    with pytest.raises(DataError) as error:
        find_images(tmp_path)
    assert message in str(error.value.message)


def test_an_index_may_be_larger_than_a_table(tmp_path, monkeypatch):
    assert coco_index.LARGEST_INDEX > 448_000_000 > tables.LARGEST_TABLE
    index = write(tmp_path / "instances_all.json", [marked(1, 1)])
    index.write_text(index.read_text() + " " * coco_index.MIB)
    monkeypatch.setattr(coco_index, "LARGEST_INDEX", 2 * coco_index.MIB)
    assert len(find_images(tmp_path).rows) == 1
    monkeypatch.setattr(coco_index, "LARGEST_INDEX", coco_index.MIB)
    with pytest.raises(DataError) as error:
        find_images(tmp_path)
    assert error.value.message == f"{index} is larger than 1 MiB, which is the most that is read of such a file"
    assert error.value.fix == "break it into several, each of a part of the corpus"
