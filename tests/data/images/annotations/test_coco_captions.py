import json

import pytest

from omnictl.data.images.annotations.coco_captions import caption_indexes, read_captions
from omnictl.data.images.manifest import ImageRow
from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError

FIX = (
    'download it anew, or write {"images": [{"id": 1, "file_name": "a.jpg"}], '
    '"annotations": [{"image_id": 1, "caption": "A cat."}]}'
)


def image(number, name=None):
    return {"id": number, "file_name": name or f"{number:012}.jpg", "height": 480, "width": 640}


def annotation(number, caption):
    return {"id": 1000 + number, "image_id": number, "caption": caption}


def write(folder, images, annotations, name="annotations/captions_train2017.json", image_folder="train2017"):
    """An index, and the images that it names."""
    index = folder / name
    for place in (index.parent, folder / image_folder):
        place.mkdir(parents=True, exist_ok=True)
    for each in images:
        if isinstance(each, dict) and isinstance(each.get("file_name"), str):
            (folder / image_folder / each["file_name"]).write_bytes(b"")
    index.write_text(json.dumps({"info": {"year": 2017}, "images": images, "annotations": annotations}))
    return index


def read(folder):
    return read_captions(folder, caption_indexes(folder))


def error_of(folder):
    with pytest.raises(DataError) as error:
        read(folder)
    return error.value


def broken(folder, images=(), annotations=()):
    """The broken rows of an index with a caption that is fine, and these."""
    fine = [image(7)], [annotation(7, "Fine.")]
    index = write(folder, [*fine[0], *images], [*fine[1], *annotations])
    manifest = read(folder)
    assert [row.caption for row in manifest.rows] == ["Fine."]
    return [(row.where.removeprefix(str(index)), row.message) for row in manifest.broken]


# Rows


def test_captions_of_two_splits(tmp_path):
    train = write(
        tmp_path,
        [image(9), image(5)],
        [annotation(5, " A cat\nasleep. "), annotation(9, "A dog."), annotation(5, "Some cat.")],
    )
    val = write(tmp_path, [image(9)], [annotation(9, "A cow.")], "annotations/captions_val2017.json", "val2017")
    manifest = read(tmp_path)
    root = tmp_path.resolve()
    five = root / "train2017" / "000000000005.jpg"
    assert manifest.folder == root
    assert manifest.broken == ()
    assert manifest.rows == (
        ImageRow("train2017/000000000005.jpg", five, {}, "A cat\nasleep.", "train", f"{train}: annotation 1"),
        ImageRow(
            "train2017/000000000009.jpg", root / "train2017" / "000000000009.jpg", {}, "A dog.", "train", f"{train}: annotation 2"
        ),
        ImageRow("train2017/000000000005.jpg#2", five, {}, "Some cat.", "train", f"{train}: annotation 3"),
        ImageRow("val2017/000000000009.jpg", root / "val2017" / "000000000009.jpg", {}, "A cow.", "val", f"{val}: annotation 1"),
    )


@pytest.mark.parametrize(
    ("index", "image_folder", "split"),
    [
        ("annotations/captions_val2014.json", "val2014", "val"),
        ("annotations/captions_test.json", "images/test", "test"),
        ("annotations/captions_train2017.json", "images", "train"),
        ("annotations/captions_flowers.json", "annotations", None),
        ("captions_valid_2017.json", "valid_2017", "val"),
        ("captions_train2017.json", ".", "train"),
    ],
)
def test_where_the_images_are(tmp_path, monkeypatch, index, image_folder, split):
    write(tmp_path, [image(1)], [annotation(1, "A cat.")], index, image_folder)
    row = read(tmp_path).rows[0]
    assert row.id == f"{image_folder}/000000000001.jpg".removeprefix("./")
    assert row.split == split
    monkeypatch.chdir(tmp_path)
    assert read(type(tmp_path)()).rows[0] == row._replace(where=f"{index}: annotation 1")


def test_ids_may_be_words(tmp_path):
    write(tmp_path, [image("a7", "a7.jpg")], [annotation(0, "A cat.") | {"image_id": "a7"}])
    assert read(tmp_path).rows[0].id == "train2017/a7.jpg"


# Broken rows


@pytest.mark.parametrize(
    ("images", "annotations", "found"),
    [
        ([], [annotation(8, "A cat.")], [(": annotation 2", "there is no image with the id 8")]),
        ([], ["A cat."], [(": annotation 2", "an object was expected, found a string")]),
        ([], [{"image_id": 7, "id": 1}], [(": annotation 2", "no key 'caption' (found 'image_id', 'id')")]),
        ([], [{}], [(": annotation 2", "no key 'image_id' (found no keys)")]),
        ([], [annotation(7, "") | {"image_id": [7]}], [(": annotation 2", "the image_id should be a number, found a list")]),
        ([], [annotation(7, " ")], [(": annotation 2", "there is neither a label nor a caption")]),
        ([], [annotation(7, 5)], [(": annotation 2", "the caption should be a string, found a number")]),
        ([[]], [], [(": image 2", "an object was expected, found a list")]),
        ([{"id": 8}], [], [(": image 2", "no key 'file_name' (found 'id')")]),
        ([{"id": None, "file_name": "8.jpg"}], [], [(": image 2", "the id should be a number, found null")]),
        ([image(7, "other.jpg")], [], [(": image 2", "its id is that of an image above")]),
        ([image(8)], [], [("", "the image with the id 8 has no caption")]),
        (
            [{"id": 8, "file_name": 8}],
            [annotation(8, "A cat.")],
            [(": annotation 2", "the image path should be a string, found a number")],
        ),
    ],
)
def test_broken_row(tmp_path, images, annotations, found):
    assert broken(tmp_path, images, annotations) == found


def test_a_broken_row_stands_where_it_was_found(tmp_path):
    index = write(tmp_path, [image(7)], [annotation(7, "Fine."), annotation(8, "A cat.")])
    where = f"{index}: annotation 2"
    assert read(tmp_path).broken == (BrokenRow(where, where, "there is no image with the id 8"),)


def test_paths(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"")
    corpus = tmp_path / "corpus"
    write(corpus, [image(7)], [])
    (corpus / "train2017" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    names = ["../../secret.jpg", "out.jpg", "gone.jpg", "/etc/passwd"]
    index = corpus / "annotations" / "captions_train2017.json"
    content = {
        "images": [image(7), *(image(number, name) for number, name in enumerate(names))],
        "annotations": [annotation(7, "Fine."), *(annotation(number, "A cat.") for number in range(len(names)))],
    }
    index.write_text(json.dumps(content))
    root = corpus.resolve()
    assert [row.message for row in read(corpus).broken] == [
        "the image path 'train2017/../../secret.jpg' should be relative to the folder of the corpus, without '..'",
        "the image path 'train2017/out.jpg' is a link that leaves the folder of the corpus",
        f"no such image file: {root / 'train2017' / 'gone.jpg'}",
        f"no such image file: {root / 'train2017' / 'etc' / 'passwd'}",
    ]


# Errors


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ('{"images": [],\n "annotations": [\n}', ":3", "broken JSON: Expecting value: line 3 column 1 (char 33)"),
        ("[" * 100_000, "", "broken JSON: "),
        ("[]", "", "an object was expected, found a list"),
        ("{}", "", "no key 'images' (found no keys)"),
        ('{"images": []}', "", "no key 'annotations' (found 'images')"),
        ('{"images": {}, "annotations": []}', "", "'images' should be a list, found an object"),
        ('{"images": [], "annotations": null}', "", "'annotations' should be a list, found null"),
    ],
)
def test_an_index_that_cannot_be_read(tmp_path, content, line, message):
    index = write(tmp_path, [], [])
    index.write_text(content)
    error = error_of(tmp_path)
    assert error.message.startswith(message)
    assert (error.where, error.fix) == (f"{index}{line}", FIX)


def test_an_empty_index(tmp_path):
    index = write(tmp_path, [], [])
    index.write_text("")
    error = error_of(tmp_path)
    assert (error.message, error.fix) == (f"{index} is empty", FIX)


def test_no_usable_caption(tmp_path):
    write(tmp_path, [], [])
    assert error_of(tmp_path).message == f"{tmp_path} has no rows"
    index = write(tmp_path, [], [annotation(8, "A cat.")])
    error = error_of(tmp_path)
    assert error.message == f"no row of {tmp_path} can be used: there is no image with the id 8"
    assert error.where == f"{index}: annotation 1"
