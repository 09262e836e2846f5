"""Speech corpora as they come: manifests, and the folders of LJSpeech, LibriSpeech and Common Voice.

Each layout is read through its own index into the rows of `manifest`, and judged by the same rules. Formats after
https://keithito.com/LJ-Speech-Dataset, https://www.openslr.org/12 and https://commonvoice.mozilla.org.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from omnictl.data.manifest import (
    SUFFIXES,
    BrokenRow,
    Manifest,
    Record,
    collect,
    no_such,
    read_manifest,
    read_table,
)
from omnictl.data.tables import read_lines
from omnictl.data.text_files import open_bytes
from omnictl.errors import DataError

RECOGNISED = """\
manifest: metadata.csv, metadata.jsonl, manifest.csv or manifest.jsonl with audio,text[,speaker,split]
LJSpeech: metadata.csv with lines of id|text|normalised text, and wavs/ID.wav
LibriSpeech: [SUBSET/]SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside the .flac files
Common Voice: train.tsv, dev.tsv, test.tsv (or else validated.tsv), and clips/*.mp3"""

_NAMED_SPLITS = ("train", "dev", "test")


class _Layout(NamedTuple):
    """A layout that a folder seems to have, and what gave it away."""

    name: str
    file: Path
    read: Callable[[], Manifest]


def find_speech(path: Path) -> Manifest:
    """The recordings of a manifest file, or of a folder whose layout is recognised.

    Raises:
        DataError: no such path, no layout or several at once, an index that cannot be read, or no usable row.
    """
    if not path.exists():
        raise no_such(path)
    if not path.is_dir():
        return read_manifest(path)
    files = [path / f"{stem}{suffix}" for stem in ("metadata", "manifest") for suffix in SUFFIXES]
    files = [file for file in files if file.is_file()]
    found = [*_manifests(files), *_ljspeech(path), *_librispeech(path), *_common_voice(path)]
    if not found and files:
        return read_manifest(files[0])  # says what its header lacks
    if len(found) != 1:
        raise _not_one(path, found)
    return found[0].read()


def _not_one(path: Path, found: list[_Layout]) -> DataError:
    if found:
        said = " and ".join(f"{layout.name} ({layout.file})" for layout in found)
        message = f"{path} has {len(found)} layouts at once: {said}"
        fix = "give --data the manifest file that is meant, or move one of them elsewhere"
    else:
        message = f"{path} has no layout of speech data that is known"
        fix = "write a manifest, or give --data the folder that directly holds one of these"
    return DataError(f"{message}\nRecognised are\n{RECOGNISED}", where=str(path), fix=fix)


def _manifests(files: Iterable[Path]) -> Iterator[_Layout]:
    for file in files:
        if "audio" in _header(file):
            yield _Layout("manifest", file, partial(read_manifest, file))


def _header(file: Path) -> list[str]:
    """The columns that the first line names; of JSONL, whose lines name their own, those of every manifest."""
    if file.suffix == ".jsonl":
        return ["audio"]
    return [name.strip() for name in next(csv.reader([_first_line(file)]), [])]


def _first_line(file: Path) -> str:
    with open_bytes(file) as opened:
        return opened.readline(100_000).decode("utf-8-sig", errors="replace")


def _ljspeech(folder: Path) -> Iterator[_Layout]:
    index = folder / "metadata.csv"
    if index.is_file() and "|" in _first_line(index) and "audio" not in _header(index):
        yield _Layout("LJSpeech", index, lambda: collect(folder, folder.resolve(), _ljspeech_records(index)))


def _ljspeech_records(index: Path) -> Iterator[Record | BrokenRow]:
    for number, line in read_lines(index):
        where = f"{index}:{number}"
        name, *texts = line.split("|")  # quotes stand for themselves here
        if len(texts) in (1, 2):
            yield Record(where, f"wavs/{name.strip()}.wav", texts[-1].strip() or texts[0])
        else:
            yield BrokenRow(where, where, f"found {len(texts) + 1} fields, expected id|text or id|text|normalised text")


def _librispeech(folder: Path) -> Iterator[_Layout]:
    """As the root of subsets, or as one of them."""
    indexes = sorted(chain(folder.glob("*/*/*.trans.txt"), folder.glob("*/*/*/*.trans.txt")))
    if indexes:
        read = partial(_read_librispeech, folder, indexes)
        yield _Layout("LibriSpeech", indexes[0], read)


def _read_librispeech(folder: Path, indexes: list[Path]) -> Manifest:
    root = folder.resolve()  # names the subset even where the folder was given as "."
    records = (_librispeech_records(index, root, index.parent.relative_to(folder)) for index in indexes)
    return collect(folder, root, chain.from_iterable(records))


def _librispeech_records(index: Path, root: Path, chapter: Path) -> Iterator[Record]:
    speaker = (root / chapter).parent
    subset = speaker.parent.name.partition("-")[0]  # "dev-clean"
    split = subset if subset in _NAMED_SPLITS else None
    for number, line in read_lines(index):
        name, _, text = line.strip().partition(" ")
        yield Record(f"{index}:{number}", f"{chapter.as_posix()}/{name}.flac", text, speaker.name, split)


def _common_voice(folder: Path) -> Iterator[_Layout]:
    named = {folder / f"{split}.tsv": split for split in _NAMED_SPLITS}
    indexes: dict[Path, str | None] = {file: split for file, split in named.items() if file.is_file()}
    validated = folder / "validated.tsv"  # repeats the rows of the others
    if not indexes and validated.is_file():
        indexes[validated] = None
    if indexes and (folder / "clips").is_dir():
        records = chain.from_iterable(_common_voice_records(index, split) for index, split in indexes.items())
        yield _Layout("Common Voice", next(iter(indexes)), lambda: collect(folder, folder.resolve(), records))


def _common_voice_records(index: Path, split: str | None) -> Iterator[Record | BrokenRow]:
    lines = ((number, line.split("\t")) for number, line in read_lines(index))  # quotes stand for themselves here
    for row in read_table(index, lines, ("path", "sentence")):
        if isinstance(row, BrokenRow):
            yield row
        else:
            where, fields = row
            clip = fields["path"].strip()
            audio = f"clips/{clip.removesuffix('.mp3')}.mp3" if clip else ""  # the first releases leave the suffix out
            yield Record(where, audio, fields["sentence"], fields.get("client_id"), split)
