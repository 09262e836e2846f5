"""What is done to some public corpora after they are unpacked, so that they are read: manifests from names, names of splits."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from omnictl.errors import DataError

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEST_TAKES = 5


def list_fsdd(folder: Path) -> None:
    """The digits of FSDD by the names of their files, `7_jackson_32.wav`; the first five takes of each are the test."""
    rows = []
    for file in sorted(folder.glob("**/recordings/*.wav")):
        digit, speaker, take = file.stem.split("_")
        split = "test" if int(take) < _TEST_TAKES else "train"
        rows.append((file.relative_to(folder).as_posix(), _DIGITS[int(digit)], speaker, split))
    _write(folder / "metadata.csv", ("audio", "text", "speaker", "split"), rows)


def list_speech_commands(folder: Path) -> None:
    """The words of Speech Commands by the names of their folders; two lists name what is validation and test."""
    named = dict.fromkeys(_lines(folder / "validation_list.txt"), "val")
    named |= dict.fromkeys(_lines(folder / "testing_list.txt"), "test")
    rows = []
    for file in sorted(folder.glob("*/*.wav")):
        if not file.parent.name.startswith("_"):  # background noise
            path = file.relative_to(folder).as_posix()
            rows.append((path, file.parent.name, file.stem.partition("_")[0], named.get(path, "train")))
    _write(folder / "metadata.csv", ("audio", "text", "speaker", "split"), rows)


def list_food(folder: Path) -> None:
    """The dishes of Food-101 by the names of their folders, in the splits of its own lists."""
    root = folder / "food-101"
    rows = [
        (f"images/{line}.jpg", line.partition("/")[0].replace("_", " "), split)
        for split in ("train", "test")
        for line in _lines(root / "meta" / f"{split}.txt")
    ]
    _write(root / "metadata.csv", ("image", "label", "split"), rows)


def flatten_text(folder: Path) -> None:
    """Texts called `wiki.train.raw` become `train.txt`, `wiki.valid.raw` becomes `valid.txt`."""
    files = sorted(folder.glob("**/*.raw")) + sorted(folder.glob("**/*.tokens"))
    if not files:
        raise _missing(folder / "wiki.train.raw")
    for file in files:
        file.rename(folder / f"{file.stem.rpartition('.')[2]}.txt")


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise _missing(file)
    return file.read_text(encoding="utf-8").split()


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    if not rows:
        raise _missing(file.parent)
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([columns, *rows])


def _missing(path: Path) -> DataError:
    fix = "the publisher may have changed it: see its own page (`omnictl data get --list`), and give --data what is there"
    return DataError(f"the corpus is not as it was: there is nothing at {path}", where=str(path), fix=fix)
