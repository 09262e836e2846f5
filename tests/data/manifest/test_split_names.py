from pathlib import Path

import pytest

from omnictl.data.manifest.split_names import split_of_name, split_of_path


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("validation.jsonl.gz", "val"),
        ("c4-train.00001-of-00512.json.gz", "train"),
        ("train-00000-of-00002.parquet", "train"),
        ("wikitext2_valid.txt", "val"),
        ("wikitext2_test.txt", "test"),
        ("Dev.csv", "val"),
        ("wiki.test.raw", None),
        ("contest.txt", None),
        ("training.txt", None),
        ("my train set.txt", None),
        ("data.txt", None),
        ("2020.txt", None),
        (".train", "train"),
        ("", None),
    ],
)
def test_names(name, split):
    assert split_of_name(name) == split


def test_folders_below_the_one_that_was_given():
    folder = Path("/data/test")
    assert split_of_path(folder / "a.txt", folder) is None
    assert split_of_path(folder / "val" / "deep" / "a.txt", folder) == "val"
    assert split_of_path(folder / "val" / "train.txt", folder) == "train"
