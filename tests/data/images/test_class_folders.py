import errno
import os

import pytest

from omnictl.data.images.class_folders import find_class_names, find_loose_images, read_class_folders
from omnictl.data.images.manifest import ImageRow, read_manifest
from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError

BY_MANIFEST = "or write a manifest: metadata.csv with image,label|caption"


def touch(folder, *names):
    """Files, and folders where a name ends in a slash."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(b"")


def made(folder):
    manifest = read_class_folders(folder)
    assert manifest.broken == ()
    return [(row.id, row.labels["label"], row.split) for row in manifest.rows]


def broken(folder, *names):
    """What of these files, below two classes that are fine, becomes broken rows."""
    touch(folder, "cat/1.jpg", "dog/1.jpg", *names)
    manifest = read_class_folders(folder)
    assert [row.id for row in manifest.rows] == ["cat/1.jpg", "dog/1.jpg"]
    return list(manifest.broken)


def error_of(folder):
    with pytest.raises(DataError) as error:
        read_class_folders(folder)
    return error.value


# Rows


def test_classes(tmp_path):
    touch(tmp_path, "dog/b.PNG", "dog/a.jpeg", "cat/2.webp", "cat/10.gif", "cat/1.jpg", "a fox/x.bmp")
    assert made(tmp_path) == [
        ("a fox/x.bmp", "a fox", None),
        ("cat/1.jpg", "cat", None),
        ("cat/10.gif", "cat", None),
        ("cat/2.webp", "cat", None),
        ("dog/a.jpeg", "dog", None),
        ("dog/b.PNG", "dog", None),
    ]
    manifest = read_class_folders(tmp_path)
    root = tmp_path.resolve()
    assert manifest.folder == root
    assert manifest.rows[1] == ImageRow(
        "cat/1.jpg", root / "cat" / "1.jpg", {"label": "cat"}, None, None, str(tmp_path / "cat" / "1.jpg")
    )
    assert find_class_names(tmp_path) == {"a fox", "cat", "dog"}


@pytest.mark.parametrize(
    ("name", "split"), [("val", "val"), ("valid", "val"), ("validation", "val"), ("Dev", "val"), ("Test", "test")]
)
def test_classes_in_splits(tmp_path, name, split):
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", f"{name}/cat/1.jpg")
    assert sorted(made(tmp_path)) == sorted(
        [("train/cat/1.jpg", "cat", "train"), ("train/dog/1.jpg", "dog", "train"), (f"{name}/cat/1.jpg", "cat", split)]
    )
    assert find_class_names(tmp_path) == {"cat", "dog"}


def test_a_class_may_be_called_like_a_split(tmp_path):
    touch(tmp_path, "train/1.jpg", "plane/1.jpg")
    assert made(tmp_path) == [("plane/1.jpg", "plane", None), ("train/1.jpg", "train", None)]
    touch(tmp_path / "both", "train/train/1.jpg", "train/plane/1.jpg")
    assert made(tmp_path / "both") == [("train/plane/1.jpg", "plane", "train"), ("train/train/1.jpg", "train", "train")]


def test_what_is_passed_over(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg", "README.md", "LICENSE", "classes.txt", ".git/x/1.jpg")
    touch(tmp_path, "cat/.DS_Store", "cat/.1.jpg", "cat/Thumbs.db", "dog/desktop.ini", "__MACOSX/cat/._1.jpg")
    assert len(made(tmp_path)) == 2
    in_splits = tmp_path / "in_splits"
    touch(in_splits, "train/cat/1.jpg", "train/dog/1.jpg", "train/labels.txt", "boxes/cat/1.xml", "boxes/1.xml")
    assert len(made(in_splits)) == 2


def test_where_has_the_path_as_given(tmp_path, monkeypatch):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    monkeypatch.chdir(tmp_path)
    row = read_class_folders(type(tmp_path)()).rows[0]
    assert (row.where, row.image) == ("cat/1.jpg", tmp_path.resolve() / "cat" / "1.jpg")


def test_a_link_to_an_image_inside_is_followed(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "dog" / "2.jpg").symlink_to("../cat/1.jpg")
    assert made(tmp_path)[2] == ("dog/2.jpg", "dog", None)


# Broken rows


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cat/notes.txt", "it is not an image: expected one of .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .webp"),
        ("cat/README", "it is not an image: expected one of .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .webp"),
        ("cat/film.mp4", "it is not an image: expected one of .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .webp"),
        ("cow/", "the folder is empty"),
        ("cat/old/", "the folder is empty"),
    ],
)
def test_broken_row(tmp_path, name, message):
    assert broken(tmp_path, name) == [BrokenRow(name.rstrip("/"), str(tmp_path / name), message)]


def test_a_folder_of_litter_is_empty(tmp_path):
    assert broken(tmp_path, "cow/.DS_Store", "cow/Thumbs.db") == [BrokenRow("cow", str(tmp_path / "cow"), "the folder is empty")]


def test_broken_rows_in_splits(tmp_path):
    touch(
        tmp_path,
        "train/cat/1.jpg",
        "train/dog/1.jpg",
        "train/cow/",
        "test/",
        "extra/cat/1.jpg",
        "more/1.jpg",
    )
    manifest = read_class_folders(tmp_path)
    assert [row.id for row in manifest.rows] == ["train/cat/1.jpg", "train/dog/1.jpg"]
    assert [(row.id, row.message) for row in manifest.broken] == [
        ("extra/cat/1.jpg", "the folder 'extra' is none of the splits train, val, test"),
        ("more/1.jpg", "the folder 'more' is none of the splits train, val, test"),
        ("test", "the folder is empty"),
        ("train/cow", "the folder is empty"),
    ]


def test_links(tmp_path):
    touch(tmp_path, "elsewhere/1.jpg", "corpus/cat/1.jpg", "corpus/dog/1.jpg")
    corpus = tmp_path / "corpus"
    (corpus / "cat" / "2.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (corpus / "cat" / "3.jpg").symlink_to("nowhere.jpg")
    (corpus / "cow").symlink_to(tmp_path / "elsewhere")
    (corpus / "dog" / "up").symlink_to(corpus)
    manifest = read_class_folders(corpus)
    labels = [(row.id, row.labels["label"]) for row in manifest.rows]
    assert labels == [("cat/1.jpg", "cat"), ("cat/2.jpg", "cat"), ("cow/1.jpg", "cow"), ("dog/1.jpg", "dog")]
    assert list(manifest.broken) == [
        BrokenRow("cat/3.jpg", str(corpus / "cat/3.jpg"), f"no such image file: {corpus.resolve() / 'cat' / '3.jpg'}"),
        BrokenRow("dog/up", str(corpus / "dog/up"), "the link leads back to a folder that it lies in: take it out"),
    ]


def test_what_lies_deeper_belongs_to_its_class(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/at/home/2.jfif", "cow/train/1.JPE", "cow/val/2.jpg")
    assert made(tmp_path) == [
        ("cat/1.jpg", "cat", None),
        ("cat/at/home/2.jfif", "cat", None),
        ("cow/train/1.JPE", "cow", None),
        ("cow/val/2.jpg", "cow", None),
    ]
    touch(tmp_path / "splits", "train/cat/old/1.jpg", "test/dog/2020/05/1.jpg", "train/dog/1.jpg")
    assert sorted(made(tmp_path / "splits")) == [
        ("test/dog/2020/05/1.jpg", "dog", "test"),
        ("train/cat/old/1.jpg", "cat", "train"),
        ("train/dog/1.jpg", "dog", "train"),
    ]


def test_a_snapshot_of_links_to_blobs(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "c0ffee"
    touch(blobs, "1", "2")
    (tmp_path / "secret.jpg").touch()
    snapshot.mkdir(parents=True)
    for name in ("1", "2"):
        (snapshot / f"{name}.jpg").symlink_to(f"../../blobs/{name}")
    (snapshot / "3.jpg").symlink_to(tmp_path / "secret.jpg")
    (snapshot / "metadata.csv").write_text("image,label\n1.jpg,cat\n2.jpg,dog\n3.jpg,dog\n")
    manifest = read_manifest(snapshot / "metadata.csv")
    assert [row.id for row in manifest.rows] == ["1.jpg", "2.jpg"]
    assert manifest.broken[0].message == "the image path '3.jpg' is a link that leaves the folder of the corpus"


def test_names_that_are_not_utf8(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    try:
        with open(os.fsencode(tmp_path / "cat") + b"/caf\xe9.jpg", "wb"):  # noqa: PTH123
            pass
    except OSError:
        pytest.skip("this file system has no such names")
    name = "cat/caf\\udce9.jpg"
    assert list(read_class_folders(tmp_path).broken) == [BrokenRow(name, str(tmp_path / name), "its name is not UTF-8: rename it")]


# Errors


@pytest.mark.parametrize(
    ("names", "said", "fix"),
    [
        (["a.jpg"], "a.jpg", "CLASS/a.jpg"),
        (["b.jpg", "a.png", "cat/1.jpg", "dog/1.jpg"], "a.png, b.jpg", "CLASS/a.png"),
        (["5.jpg", "4.jpg", "3.jpg", "2.jpg", "1.jpg"], "1.jpg, 2.jpg, 3.jpg and 2 more", "CLASS/1.jpg"),
        (["train/1.jpg", "test/1.jpg"], "test/1.jpg, train/1.jpg", "test/CLASS/1.jpg"),
        (["train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg"], "test/1.jpg", "test/CLASS/1.jpg"),
        (["train/cat/1.jpg", "train/dog/1.jpg", "map.png"], "map.png", "CLASS/map.png"),
    ],
)
def test_images_in_no_class_folder(tmp_path, names, said, fix):
    touch(tmp_path, *names)
    error = error_of(tmp_path)
    assert error.message == f"{tmp_path} has images in no class folder: {said}"
    assert error.where == str(tmp_path / fix.replace("CLASS/", ""))
    assert error.fix == f"move each into a folder named after its class ({fix}), {BY_MANIFEST}"
    assert find_loose_images(tmp_path)


@pytest.mark.parametrize("names", [["images/1.jpg", "images/2.jpg"], ["train/cat/1.jpg", "test/cat/1.jpg"]])
def test_one_class_alone(tmp_path, names):
    touch(tmp_path, *names)
    error = error_of(tmp_path)
    name = names[0].split("/")[-2]
    assert error.message == f"{tmp_path} has one class folder alone: {name}"
    assert error.where == str(tmp_path)
    assert error.fix == f"give every class a folder of its own, {BY_MANIFEST}"


def test_no_usable_image(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for name in ("cat/1.jpg", "dog/1.jpg"):
        (tmp_path / name).symlink_to("nowhere.jpg")
    error = error_of(tmp_path)
    missing = tmp_path.resolve() / "cat" / "1.jpg"
    assert error.message == f"no row of {tmp_path} can be used: no such image file: {missing}; 1 more are broken"
    assert error.where == str(tmp_path / "cat" / "1.jpg")
    assert error.fix == f"a row needs a label or a caption, and the path of an image file, relative to {tmp_path.resolve()}"


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    listed = type(tmp_path).iterdir

    def iterdir(folder):
        if folder.name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(type(tmp_path), "iterdir", iterdir)  # the superuser may list every folder
    error = error_of(tmp_path)
    assert (error.message, error.where) == (f"cannot read {tmp_path / 'dog'}: Permission denied", str(tmp_path / "dog"))
    assert error.fix == "make it readable for this user"


# Real data


@pytest.mark.slow
def test_real_folders(test_data):
    rows = made(test_data / "cifar10_mini")
    assert {split: sum(row[2] == split for row in rows) for split in ("train", "test")} == {"train": 5000, "test": 1000}
    assert len({label for _, label, _ in rows}) == 10
    assert len(made(test_data / "cifar10_mini" / "test")) == 1000
