"""Kaldi's data folders: `wav.scp` and `text`, optionally `utt2spk` and `segments`, in the folder or in one for each split below it.

Paths are relative to the folder that was given, or to that of `wav.scp`; absolute ones may lead nowhere else. What `wav.scp` has
as a command (`sph2pipe … |`) is never run. Format after https://kaldi-asr.org/doc/data_prep.html.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from omnictl.data.manifest.rows import BrokenRow, Flaw, Record
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.manifest.tables import read_lines

_INDEX = "wav.scp"
_DEPTHS = ("", "*/", "data/*/")


class _Entry(NamedTuple):
    where: str
    value: str


def find_kaldi(folder: Path) -> list[Path]:
    """The files `wav.scp` of a data folder, or of the folders of a corpus, that have a `text` beside them."""
    files = chain.from_iterable(folder.glob(f"{depth}{_INDEX}") for depth in _DEPTHS)
    return sorted({file for file in files if (file.parent / "text").is_file() and not file.parent.name.startswith(".")})


def read_kaldi(index: Path, root: Path) -> Iterator[Record | BrokenRow]:
    """The utterances of a data folder in the order of its `text`.

    Args:
        index: its `wav.scp`.
        root: the folder that was given.
    """
    recordings, speakers, segments = (_read(index.parent / name) for name in (_INDEX, "utt2spk", "segments"))
    split = split_of_path(index, root)
    for utterance, text in _read(index.parent / "text").items():
        try:
            name, times = _segment(segments, utterance) if segments else (utterance, {})
            path = _below(_recording(recordings, name), index.parent, root)
        except Flaw as flaw:
            yield BrokenRow(utterance, text.where, str(flaw))
            continue
        speaker = speakers[utterance].value if utterance in speakers else None
        yield Record(text.where, {"audio": path, "text": text.value, "speaker": speaker, "split": split, **times})


def _recording(recordings: Mapping[str, _Entry], name: str) -> str:
    if name not in recordings:
        raise Flaw(f"{_INDEX} has no line of {name!r}")
    where, path = recordings[name]
    if path.endswith("|"):
        raise Flaw(f"{where} is a command, and commands are not run: run it, and write the path of its file there")
    return path


def _segment(segments: Mapping[str, _Entry], utterance: str) -> tuple[str, dict[str, float]]:
    """The recording that an utterance is a part of, and which part."""
    if utterance not in segments:
        raise Flaw(f"segments has no line of {utterance!r}")
    where, value = segments[utterance]
    try:
        recording, start, end = value.split()
        return recording, {"offset": float(start), "duration": float(end) - float(start)}
    except ValueError as error:
        raise Flaw(f"{where} should have a recording, a start and an end in seconds, found {value!r}") from error


def _read(file: Path) -> Mapping[str, _Entry]:
    """The lines of a file by their first words; nothing if there is no such file."""
    if not file.is_file():
        return {}
    lines = ((f"{file}:{number}", line.strip().partition(" ")) for number, line in read_lines(file, "write one line per utterance"))
    return {key: _Entry(where, value.strip()) for where, (key, _, value) in lines}


def _below(path: str, folder: Path, root: Path) -> str:
    """A path as seen from the folder that was given, as far as it lies there."""
    for candidate in (root / path, folder / path):
        if candidate.is_file() and candidate.resolve().is_relative_to(root.resolve()):
            return candidate.resolve().relative_to(root.resolve()).as_posix()
    return path
