"""Corpora of files in which a row in twenty is broken, each in another way."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image

RATE = 16_000
SHARE = 20
"""One row of so many is broken."""

Row = dict[str, Any]
Break = Callable[[Row, Path], Row | str]
"""Breaks a row, or the file that it names; returns the row or what to write in its place."""


class Corpus(NamedTuple):
    """A folder, where its broken rows stand, and how many whole ones it has to train on."""

    folder: Path
    broken: list[str]
    usable: int


def with_field(**fields: Any) -> Break:
    return lambda row, _: row | fields


def without(*names: str) -> Break:
    return lambda row, _: {name: value for name, value in row.items() if name not in names}


def as_line(change: Callable[[str], str]) -> Break:
    return lambda row, _: change(json.dumps(row))


def file_of(row: Row, folder: Path) -> Path:
    """The file that a row of speech or images, or the first medium of a dialogue, names."""
    if "messages" in row:
        part = row["messages"][0]["content"][0]
        return folder / part[part["type"]]
    return folder / (row.get("audio") or row["image"])


def with_file(change: Callable[[Path], object]) -> Break:
    def broken(row: Row, folder: Path) -> Row:
        change(file_of(row, folder))
        return row

    return broken


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def link_out(path: Path) -> None:
    outside = path.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def sound(samples: Any, *, rate: int = RATE, subtype: str = "FLOAT") -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, np.asarray(samples, np.float32), rate, format="WAV", subtype=subtype)


LINES: Mapping[str, Break] = {
    "broken JSON": as_line(lambda line: line[:-2]),
    "no object": as_line(lambda line: f"[{line}]"),
    "null": as_line(lambda _line: "null"),
    "deep": as_line(lambda _line: "[" * 3_000 + "]" * 3_000),
    "another split": with_field(split="tarin"),
    "a split that is a number": with_field(split=1),
}
"""Of every kind of manifest."""

PATHS: Mapping[str, Callable[[Path], object]] = {
    "not there": Path.unlink,
    "a link that leaves the folder": link_out,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("this is neither audio nor an image"),
    "cut": cut,
}
"""What befalls files of every kind."""

SPEECH_FILES: Mapping[str, Break] = {
    "no samples": with_file(sound([])),
    "not finite": with_file(sound([0.1, np.nan, 0.1] * 2_000)),
    "far out of range": with_file(sound([0.1, 1e6, 0.1] * 2_000)),
    "too slow": with_file(sound([0.1] * 200, rate=200, subtype="PCM_16")),
    "too long": with_file(sound([0.01] * 3 * RATE, subtype="PCM_16")),
    **{f"file {name}": with_file(change) for name, change in PATHS.items() if name in ("empty", "text", "cut")},
}
"""Seen when recordings are read."""

SPEECH_TEXTS: Mapping[str, Break] = {
    "another alphabet": with_field(text="привет"),
    "no words": with_field(text="?!"),
}

TOO_SHORT: Mapping[str, Break] = {
    "too short for its text": with_field(text="one two three four five six seven eight nine ten " * 4)
}
"""For stages that align text and audio."""

SPEECH: Mapping[str, Break] = {
    **LINES,
    **SPEECH_FILES,
    **SPEECH_TEXTS,
    **{f"file {name}": with_file(change) for name, change in PATHS.items()},
    "no text": without("text"),
    "no audio": without("audio"),
    "an empty text": with_field(text=" "),
    "a text that is a number": with_field(text=5),
    "half a character": with_field(text="one \ud800"),
    "out of the folder": with_field(audio="../1.wav"),
    "a folder": with_field(audio="."),
    "a name that is none": with_field(audio="1\0.wav"),
    "a name too long": with_field(audio="x" * 300 + ".wav"),
    "a speaker that is a list": with_field(speaker=["ada"]),
}

IMAGES: Mapping[str, Break] = {
    **LINES,
    **{f"file {name}": with_file(change) for name, change in PATHS.items()},
    "no image": without("image"),
    "neither label nor caption": without("label"),
    "an empty label": with_field(label=""),
    "a list of labels": with_field(label=["cat"]),
    "not a number": with_field(label=float("nan")),
    "a caption alone": lambda row, _: {"image": row["image"], "split": row["split"], "caption": "a cat"},
    "out of the folder": with_field(image="../1.png"),
    "a folder": with_field(image="."),
}


def saying(*messages: Any) -> Break:
    return with_field(messages=list(messages))


QUESTION = {"role": "user", "content": "what is it?"}
ANSWER = {"role": "assistant", "content": "a cat"}


def answer_with_image(file: str) -> Row:
    return {"role": "assistant", "content": [{"type": "image", "image": file}, {"type": "text", "text": "this"}]}


DIALOGUES: Mapping[str, Break] = {
    **LINES,
    **{f"file {name}": with_file(change) for name, change in PATHS.items()},
    "no messages": without("messages"),
    "an empty list": saying(),
    "messages that are a text": with_field(messages="hello"),
    "nobody answers": saying(QUESTION),
    "two questions": saying(QUESTION, QUESTION, ANSWER),
    "another role": saying({"role": "nobody", "content": "hello"}, ANSWER),
    "an empty answer": saying(QUESTION, {"role": "assistant", "content": " "}),
    "an answer of a number": saying(QUESTION, {"role": "assistant", "content": 5}),
    "another kind of part": saying({"role": "user", "content": [{"type": "smell", "smell": "a.txt"}]}, ANSWER),
    "a part without its key": saying({"role": "user", "content": [{"type": "image"}]}, ANSWER),
    "an image in the answer": lambda row, folder: row | {"messages": [QUESTION, answer_with_image(file_of(row, folder).name)]},
    "longer than the context": saying(QUESTION, {"role": "assistant", "content": "a cat and a dog and " * 300}),
}


def write_speech(folder: Path, number: int) -> Row:
    seconds = 0.8 + 0.01 * (number % 20)
    noise = 0.1 * np.random.default_rng(number).standard_normal(round(seconds * RATE), dtype=np.float32)
    soundfile.write(folder / f"{number}.wav", noise, RATE)
    return {"audio": f"{number}.wav", "text": ("one", "two", "six", "ten")[number % 4], "speaker": "ada"}


def write_image(folder: Path, number: int) -> Row:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
    return {"image": f"{number}.png", "label": ("cat", "dog")[number % 2]}


def write_dialogue(folder: Path, number: int) -> Row:
    """About an image, or about a recording."""
    kind = ("image", "audio")[number % 2]
    file = (write_image if kind == "image" else write_speech)(folder, number)[kind]
    ask = {"role": "user", "content": [{"type": kind, kind: file}, {"type": "text", "text": "what is it?"}]}
    return {"messages": [ask, ANSWER], "task": kind}


WRITE = {"speech": write_speech, "images": write_image, "dialogues": write_dialogue}


def write_corpus(folder: Path, kind: str, breaks: Sequence[Break], validation: Sequence[Break], generator: random.Random) -> Corpus:
    """Rows to train and to validate on, one in twenty of each broken, where chance puts them.

    Args:
        folder: of the corpus, made here.
        kind: `speech`, `images` or `dialogues`.
        breaks: what becomes of rows of the training split.
        validation: of the validation split; of files and texts alone, as other broken rows count as training's.
        generator: draws places.
    """
    folder.mkdir(parents=True)
    manifest = folder / ("dialogues.jsonl" if kind == "dialogues" else "metadata.jsonl")
    rows = [(split, broken) for split, some in (("train", breaks), ("val", validation)) for broken in _spread(some, generator)]
    generator.shuffle(rows)
    lines, places = [], []
    for number, (split, broken) in enumerate(rows, start=1):
        row: Row | str = {**WRITE[kind](folder, number), "split": split}
        if broken is not None:
            assert isinstance(row, dict)
            row = broken(row, folder)
            places.append(f"{manifest}:{number}")
        lines.append(row if isinstance(row, str) else json.dumps(row))
    manifest.write_text("".join(f"{line}\n" for line in lines))
    return Corpus(folder, sorted(places), (SHARE - 1) * len(breaks))


def _spread(breaks: Sequence[Break], generator: random.Random) -> list[Break | None]:
    """Twenty rows for each."""
    rows: list[Break | None] = [*breaks, *[None] * ((SHARE - 1) * len(breaks))]
    generator.shuffle(rows)
    return rows
