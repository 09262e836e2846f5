from pathlib import Path

import pytest

from omnictl.data.images.layouts import find_images
from omnictl.data.images.manifest import ImageRow
from omnictl.data.manifest.splits import fill_splits

SPLITS = ("train", "val", "test")


def row(name, split=None, image=None):
    return ImageRow(name, Path("/corpus") / (image or name), {"label": "cat"}, None, split, f"metadata.csv:{name}")


def split(rows, val=None, test=None):
    """The splits; every row is in one of them, and each is in the order of the rows."""
    found = fill_splits(rows, val_fraction=val, test_fraction=test)
    assert tuple(found) == SPLITS
    names = [row.id for row in rows]
    for part in found.values():
        places = [names.index(row.id) for row in part]
        assert places == sorted(places)
    assert sorted(row.id for part in found.values() for row in part) == sorted(names)
    return found


def sizes(found):
    return tuple(len(found[name]) for name in SPLITS)


def numbered(count, split=None):
    return [row(f"{i}.png", split) for i in range(count)]


def test_shares_by_hash():
    assert sizes(split(numbered(1000))) == (902, 48, 50)  # val is a share of what the test leaves
    assert sizes(split(numbered(1000), val=0.1, test=0.2)) == (720, 80, 200)
    assert sizes(split(numbered(1000), val=0, test=0)) == (1000, 0, 0)
    assert sizes(split(numbered(3))) == (1, 1, 1)
    assert sizes(split(numbered(1))) == (1, 0, 0)
    assert sizes(split([])) == (0, 0, 0)


def test_the_hashes_do_not_change():
    """Golden: another hash would move images from one run's training into another's test."""
    found = split(numbered(40), val=0.1, test=0.1)
    assert [row.id for row in found["val"]] == ["1.png", "15.png", "16.png", "35.png"]
    assert [row.id for row in found["test"]] == ["19.png", "22.png", "25.png", "38.png"]


def test_captions_of_an_image_stay_together():
    rows = [row(f"{i % 100}.png#{i // 100 + 1}", image=f"{i % 100}.png") for i in range(500)]
    found = split(rows)
    images = {name: {row.image for row in found[name]} for name in SPLITS}
    assert [len(images[name]) for name in SPLITS] == [90, 5, 5]
    assert sizes(found) == (450, 25, 25)


def test_named_splits_are_kept():
    rows = [row("a", "test"), row("b", "val"), row("c", "train"), row("d")]
    for share in (None, 0, 0.5):
        found = split(rows, val=share, test=share)
        assert [[row.id for row in found[name]] for name in SPLITS] == [["c", "d"], ["b"], ["a"]]


def test_what_no_row_names_is_filled():
    rows = [*numbered(100, "train"), *(row(f"t{i}", "test") for i in range(10))]
    assert sizes(split(rows)) == (95, 5, 10)
    assert sizes(split([*numbered(100), row("v", "val")])) == (100, 1, 0)  # no test unless asked for
    assert sizes(split([*numbered(100), row("v", "val")], test=0.1)) == (90, 1, 10)


@pytest.mark.slow
def test_real_splits(test_data):
    assert sizes(split(find_images(test_data / "cifar10_mini").rows)) == (4750, 250, 1000)
    assert sizes(split(find_images(test_data / "openmoji").rows)) == (2108, 111, 246)
