"""Every format that people's data comes in: read, checked, trained for two steps; and its commonest faults, with file and place.

A format is a function that writes rows into a folder; a fault is a row without its file, with half of it, or without its words.
"""

import base64
import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pytest
import soundfile
import torch
from PIL import Image
from pyarrow import parquet
from stage_factory import untrained

from omnictl.config import resolve
from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.data.inspect.dialogues import check_dialogues
from omnictl.data.inspect.images import check_images
from omnictl.data.inspect.text_and_speech import check_speech, check_text
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import DataError
from omnictl.stages import command_recipe, stage_type
from omnictl.stages.protocol import StageContext


class Row(NamedTuple):
    """A file and what is said of it."""

    media: bytes | None
    words: str


Write = Callable[[Path, Sequence[Row]], Path]

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
RNG = np.random.default_rng(0)


def sound(seconds: float = 1.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, RNG.normal(0, 0.1, round(16_000 * seconds)), 16_000, format="FLAC")
    return file.getvalue()


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), ((200, 0, 0), (0, 0, 200))[number % 2], np.uint8)).save(file, "png")
    return file.getvalue()


SPEECH = [Row(sound(), word) for word in WORDS]
IMAGES = [Row(picture(number), ("red", "blue")[number % 2]) for number in range(24)]


def put(path: Path, data: bytes | None) -> None:
    """The file, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        path.write_bytes(data)


# Speech


def excel(folder: Path, rows: Sequence[Row]) -> Path:
    """As Excel writes it: a byte order mark, semicolons, Windows' line ends."""
    for number, row in enumerate(rows):
        put(folder / f"{number}.flac", row.media)
    lines = ["audio;text", *(f"{number}.flac;{row.words}" for number, row in enumerate(rows))]
    (folder / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    return folder


def lines_of_json(folder: Path, rows: Sequence[Row]) -> Path:
    for number, row in enumerate(rows):
        put(folder / f"{number}.flac", row.media)
    text = "".join(json.dumps({"audio": f"{number}.flac", "text": row.words}) + "\n" for number, row in enumerate(rows))
    (folder / "metadata.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def kaldi(folder: Path, rows: Sequence[Row]) -> Path:
    for number, row in enumerate(rows):
        put(folder / f"{number}.flac", row.media)
    (folder / "wav.scp").write_text("".join(f"u{number} {number}.flac\n" for number in range(len(rows))))
    (folder / "text").write_text("".join(f"u{number} {row.words}\n" for number, row in enumerate(rows)))
    return folder


def vctk(folder: Path, rows: Sequence[Row]) -> Path:
    for number, row in enumerate(rows):
        put(folder / "wav48_silence_trimmed" / "p1" / f"p1_{number:03}_mic1.flac", row.media)
        put(folder / "txt" / "p1" / f"p1_{number:03}.txt", row.words.encode() if row.words else None)
    return folder


def table(rows: Sequence[Row], column: str, words: str) -> pyarrow.Table:
    return pyarrow.table({column: [{"bytes": row.media, "path": None} for row in rows], words: [row.words for row in rows]})


def speech_parquet(folder: Path, rows: Sequence[Row]) -> Path:
    parquet.write_table(table(rows, "audio", "text"), folder / "a.parquet")
    return folder


def speech_on_disk(folder: Path, rows: Sequence[Row]) -> Path:
    """As `save_to_disk` of Hugging Face's `datasets` writes it."""
    made = table(rows, "audio", "sentence")
    with pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, made.schema) as out:
        out.write_table(made)
    (folder / "state.json").write_text("{}")
    return folder


def tar(folder: Path, rows: Sequence[Row], media: str, words: str) -> Path:
    with tarfile.open(folder / "a.tar", "w") as out:
        for number, row in enumerate(rows):
            for suffix, data in ((media, row.media), (words, row.words.encode() or None)):
                if data is not None:
                    member = tarfile.TarInfo(f"{number:03}.{suffix}")
                    member.size = len(data)
                    out.addfile(member, io.BytesIO(data))
    return folder


def speech_tar(folder: Path, rows: Sequence[Row]) -> Path:
    return tar(folder, rows, "flac", "txt")


# Images


def classes_in_depth(folder: Path, rows: Sequence[Row]) -> Path:
    for number, row in enumerate(rows):
        put(folder / (row.words or "") / "deep" / f"{number}.png", row.media)
    return folder


def coco(folder: Path, rows: Sequence[Row]) -> Path:
    names = sorted({row.words for row in rows if row.words})
    for number, row in enumerate(rows):
        put(folder / "images" / f"{number}.png", row.media)
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(len(rows))]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    ids = [names.index(row.words) if row.words else 99 for row in rows]
    annotations = [{"image_id": number, "category_id": category, "bbox": [0, 0, 5, 5]} for number, category in enumerate(ids)]
    (folder / "annotations").mkdir()
    content = json.dumps({"images": images, "categories": categories, "annotations": annotations})
    (folder / "annotations" / "instances_all.json").write_text(content)
    return folder


def yolo(folder: Path, rows: Sequence[Row]) -> Path:
    names = sorted({row.words for row in rows if row.words})
    (folder / "data.yaml").write_text(f"names: {json.dumps(names)}\n")
    for number, row in enumerate(rows):
        put(folder / "images" / f"{number}.png", row.media)
        put(folder / "labels" / f"{number}.txt", f"{names.index(row.words) if row.words else 9} 0.5 0.5 0.2 0.2\n".encode())
    return folder


def images_parquet(folder: Path, rows: Sequence[Row]) -> Path:
    parquet.write_table(table(rows, "image", "label"), folder / "a.parquet")
    return folder


def images_tar(folder: Path, rows: Sequence[Row]) -> Path:
    return tar(folder, rows, "png", "cls")


# Dialogues


def llava(folder: Path, rows: Sequence[Row]) -> Path:
    made = []
    for number, row in enumerate(rows):
        put(folder / f"{number}.png", row.media)
        turns = [{"from": "human", "value": "<image>\nWhat colour?"}, {"from": "gpt", "value": row.words}]
        made.append({"id": number, "image": f"{number}.png", "conversations": turns})
    (folder / "train.json").write_text(json.dumps(made, indent=1))
    return folder


def swift(folder: Path, rows: Sequence[Row]) -> Path:
    lines = []
    for number, row in enumerate(rows):
        put(folder / f"{number}.png", row.media)
        turns = [{"role": "user", "content": "<image>What colour?"}, {"role": "assistant", "content": row.words}]
        lines.append(json.dumps({"messages": turns, "images": [f"{number}.png"]}))
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder


def openai(folder: Path, rows: Sequence[Row]) -> Path:
    lines = []
    for row in rows:
        url = f"data:image/png;base64,{base64.b64encode(row.media or b'').decode()}"
        asked = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What colour?"}]
        lines.append(json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": row.words}]}))
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder


def dialogues_parquet(folder: Path, rows: Sequence[Row]) -> Path:
    turns = [[{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": row.words}] for row in rows]
    media = [[{"bytes": row.media, "path": None}] for row in rows]
    parquet.write_table(pyarrow.table({"images": media, "messages": turns}), folder / "a.parquet")
    return folder


FORMATS: dict[str, tuple[str, Write, str]] = {
    "csv of Excel": ("asr", excel, r"metadata\.csv:3$"),
    "jsonl.gz": ("asr", lines_of_json, r"metadata\.jsonl\.gz:2$"),
    "Kaldi": ("asr", kaldi, r"text:2$"),
    "VCTK": ("asr", vctk, r"p1_001"),
    "parquet of speech": ("asr", speech_parquet, r"a\.parquet: row 2$"),
    "datasets on disk": ("asr", speech_on_disk, r"\.arrow: row 2$"),
    "WebDataset of speech": ("asr", speech_tar, r"a\.tar: .*001"),
    "class folders": ("vision", classes_in_depth, r"1\.png$"),
    "COCO": ("vision", coco, r"instances_all\.json: (image 1|annotation 2)$"),
    "YOLO": ("vision", yolo, r"labels/1\.txt"),
    "parquet of images": ("vision", images_parquet, r"a\.parquet: row 2$"),
    "WebDataset of images": ("vision", images_tar, r"a\.tar: .*001"),
    "LLaVA": ("sft", llava, r"train\.json:\d+$"),
    "Swift": ("sft", swift, r"data\.jsonl:2$"),
    "OpenAI": ("sft", openai, r"data\.jsonl:2$"),
    "parquet of dialogues": ("sft", dialogues_parquet, r"a\.parquet: row 2$"),
}
"""The stage that reads it, what writes it, and where its second row is."""

CHECKS = {"asr": check_speech, "vision": check_images, "sft": check_dialogues}
KINDS = {"asr": "speech", "vision": "images", "sft": "dialogues"}

LACKING = {
    ("VCTK", "no media"): "a text without a recording is passed over, as the corpus has some",
    ("class folders", "no media"): "without its file there is no row",
    ("class folders", "no words"): "a file in no class folder is refused with all others",
    ("WebDataset of speech", "no media"): "a text alone is no example",
    ("WebDataset of images", "no media"): "a text alone is no example",
}
"""What cannot go wrong in a format, or goes wrong otherwise."""


def rows_of(stage: str) -> list[Row]:
    return list(SPEECH if stage == "asr" else IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_two_steps(tmp_path: Path, name: str) -> None:
    stage_name, write, _ = FORMATS[name]
    path = write(tmp_path, rows_of(stage_name))
    assert find_kind(str(path)) == KINDS[stage_name]
    assert CHECKS[stage_name](str(path)).error() is None
    recipe = command_recipe(stage_name)
    shares = [f"data.source={json.dumps(str(path))}", "data.val_fraction=0.2", "data.test_fraction=0.2"]
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=shares)
    upstream = {part: untrained(part, cache_dir()) for part in ("pretrain", "vision")} if stage_name == "sft" else {}
    stage = stage_type(stage_name).create(config, context=StageContext(cache_dir(), upstream=upstream))
    before = [parameter.detach().clone() for parameter in stage.model.parameters()]
    optimizer, batches = torch.optim.SGD(stage.model.parameters(), lr=0.01), stage.batches()
    for step in range(2):
        optimizer.zero_grad()
        loss = stage.loss(batches.collate(batches.ids(step)))
        (loss.sum / loss.count).backward()
        optimizer.step()
        assert torch.isfinite(loss.sum)
    assert any(not torch.equal(one, other) for one, other in zip(before, stage.model.parameters(), strict=True))


FAULTS: dict[str, Callable[[Row], Row]] = {
    "no media": lambda row: row._replace(media=None),
    "half of the media": lambda row: row._replace(media=(row.media or b"")[: len(row.media or b"") // 2]),
    "no words": lambda row: row._replace(words=""),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FORMATS)
def test_faults(tmp_path: Path, name: str, fault: str) -> None:
    if (name, fault) in LACKING:
        pytest.skip(LACKING[name, fault])
    stage_name, write, place = FORMATS[name]
    rows = rows_of(stage_name)
    rows[1] = FAULTS[fault](rows[1])
    report = CHECKS[stage_name](str(write(tmp_path, rows)))
    assert report.num_broken == 1, report.broken
    assert all(re.search(place, problem.where) for problem in report.broken), report.broken


# Text, which is read whole or not at all

TEXTS = [f"Document {number} says that it is number {number}." for number in range(40)]


def text_lines(texts: Sequence[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.parquet"])
def test_two_steps_on_text(tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / name)
    elif name.endswith(".zst"):
        zstandard = pytest.importorskip("zstandard")
        (tmp_path / name).write_bytes(zstandard.compress(text_lines(TEXTS)))
    else:
        (tmp_path / name).write_bytes(gzip.compress("\n\n\n".join(TEXTS).encode() if ".txt" in name else text_lines(TEXTS)))
    assert check_text(str(tmp_path)).error() is None
    recipe = command_recipe("pretrain")
    settings = [f"data.source={json.dumps(str(tmp_path))}", "data.vocab_size=300", "data.seq_len=32"]
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=settings)
    stage = stage_type("pretrain").create(config, context=StageContext(cache_dir()))
    batches = stage.batches()
    for step in range(2):
        loss = stage.loss(batches.collate(batches.ids(step)))
        loss.sum.backward()
        assert torch.isfinite(loss.sum)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.jsonl.gz", gzip.compress(text_lines(TEXTS))[:-20], r"a\.jsonl\.gz"),
        ("a.jsonl", text_lines(TEXTS[:2]) + b"{\n", r"a\.jsonl:3$"),
        ("a.jsonl", text_lines(TEXTS[:2]) + b'{"txt": "x"}\n', r"a\.jsonl:3$"),
        ("a.txt", b"fine\n\xff", r"a\.txt:2$"),
        ("a.parquet", b"PAR1 and no more", r"a\.parquet"),
    ],
)
def test_faults_of_text(tmp_path: Path, name: str, content: bytes, where: str) -> None:
    (tmp_path / "b.txt").write_text("\n\n\n".join(TEXTS))
    (tmp_path / name).write_bytes(content)
    try:
        (problem,) = check_text(str(tmp_path)).broken
        found = problem.where
    except DataError as error:
        found = error.where or ""
    assert re.search(where, found)
