"""Which images cannot be read: decoded once, and again when a file has changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnictl.data.images.files import broken_images
from omnictl.data.images.files.broken_images import find_broken_images
from omnictl.data.images.files.decoder import read_image
from omnictl.errors import DataError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images `a.png` and `b.png`, and `c.png` that is none."""
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_text("this is no image")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are looked at, in any order."""
    names: list[str] = []

    def watched(path: Path) -> Any:
        names.append(path.name)
        return read_image(path)

    monkeypatch.setattr(broken_images, "read_image", watched)
    return names


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("?.png"))


def test_what_cannot_be_read_is_named_with_its_reason(folder: Path, cache: Path) -> None:
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:-20])
    expected = {}
    for name in ("b.png", "c.png"):
        with pytest.raises(DataError) as caught:
            read_image(folder / name)
        expected[folder / name] = caught.value.message
    assert find_broken_images(images(folder), cache) == expected
    assert find_broken_images(images(folder), cache) == expected


def test_each_file_is_decoded_once(folder: Path, cache: Path, decoded: list[str]) -> None:
    first = find_broken_images([*images(folder), *images(folder)[::-1]], cache)
    assert sorted(decoded) == ["a.png", "b.png", "c.png"]
    assert find_broken_images([*images(folder), *images(folder)], cache) == first
    assert len(decoded) == 3


def test_that_nothing_is_wrong_is_remembered_too(folder: Path, cache: Path, decoded: list[str]) -> None:
    (folder / "c.png").unlink()
    for _ in range(2):
        assert find_broken_images(images(folder), cache) == {}
    assert sorted(decoded) == ["a.png", "b.png"]


def test_what_another_process_has_just_found_is_not_looked_for_again(
    folder: Path, cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there at the first look, before the lock; and it is that nothing is wrong."""
    (folder / "c.png").unlink()
    find_broken_images(images(folder), cache)
    really, looks = broken_images._read, [False, True]
    monkeypatch.setattr(broken_images, "_read", lambda path: really(path) if looks.pop(0) else None)
    assert find_broken_images(images(folder), cache) == {}
    assert looks == []
    assert len(decoded) == 2


def test_a_file_that_vanished_is_a_flaw(folder: Path, cache: Path, decoded: list[str]) -> None:
    """Before the first look, or after it; and it may come back."""
    given, stored = images(folder), (folder / "a.png").read_bytes()
    (folder / "a.png").unlink()
    with pytest.raises(DataError) as caught:
        read_image(folder / "a.png")
    for _ in range(2):
        flaws = find_broken_images(given, cache)
        assert list(flaws) == [folder / "a.png", folder / "c.png"]
        assert flaws[folder / "a.png"] == caught.value.message == f"no such file: {folder}/a.png"
    assert len(decoded) == 3
    (folder / "a.png").write_bytes(stored)
    (folder / "b.png").unlink()
    assert list(find_broken_images(given, cache)) == [folder / "b.png", folder / "c.png"]
    assert len(decoded) == 6


def test_each_of_many_files_has_its_own_verdict(tmp_path: Path, cache: Path) -> None:
    """More than are looked at at a time."""
    files = [tmp_path / f"{number}.png" for number in range(75)]
    for number, file in enumerate(files):
        if number % 7:
            Image.new("RGB", (2, 2)).save(file)
        else:
            file.write_text(f"no {number}")
    flaws = find_broken_images(files, cache)
    assert list(flaws) == files[::7]
    assert all(flaw.startswith(f"{file} is not a ") for file, flaw in flaws.items())


def breaks(folder: Path) -> None:
    (folder / "b.png").write_text("no image any more")


def touches(folder: Path) -> None:
    before = (folder / "b.png").stat()
    os.utime(folder / "b.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


def breaks_at_the_same_moment(folder: Path) -> None:
    before = (folder / "b.png").stat()
    breaks(folder)
    os.utime(folder / "b.png", ns=(before.st_atime_ns, before.st_mtime_ns))


def mends(folder: Path) -> None:
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())


@pytest.mark.parametrize(
    ("change", "broken"),
    [(breaks, ["b.png", "c.png"]), (breaks_at_the_same_moment, ["b.png", "c.png"]), (touches, ["c.png"]), (mends, [])],
)
def test_a_file_that_changed_is_judged_anew(
    change: Callable[[Path], None], broken: list[str], folder: Path, cache: Path, decoded: list[str]
) -> None:
    assert [path.name for path in find_broken_images(images(folder), cache)] == ["c.png"]
    change(folder)
    assert [path.name for path in find_broken_images(images(folder), cache)] == broken
    assert len(decoded) == 6


def test_another_idea_of_what_is_accepted_judges_anew(
    folder: Path, cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_broken_images(images(folder), cache)
    monkeypatch.setattr(broken_images, "VERSION", broken_images.VERSION + 1)
    find_broken_images(images(folder), cache)
    assert len(decoded) == 6


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps(["c.png"])])
def test_damaged_verdicts_are_made_again(content: str, folder: Path, cache: Path, decoded: list[str]) -> None:
    first = find_broken_images(images(folder), cache)
    (kept,) = cache.rglob("flaws.json")
    kept.write_text(content)
    assert find_broken_images(images(folder), cache) == first
    assert len(decoded) == 6
    assert find_broken_images(images(folder), cache) == first
    assert len(decoded) == 6
