"""`omnictl init`: what it says of a folder, what it writes, and what it refuses."""

import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnictl.pipeline.pipeline import create_pipeline_run
from omnictl.runs.run import Run

Command = Callable[..., Any]


@pytest.fixture
def files(runs: Path, tmp_path: Path) -> Path:
    """A folder of texts, too few images, and what no stage reads; the working directory lies above it."""
    folder = tmp_path / "my files"
    (folder / "books").mkdir(parents=True)
    (folder / "books" / "a.txt").write_text("many words " * 10_000)
    (folder / "photos" / "cat").mkdir(parents=True)
    (folder / "photos" / "dog").mkdir()
    Image.new("RGB", (20, 20)).save(folder / "photos" / "cat" / "1.png")
    shutil.copy(folder / "photos" / "cat" / "1.png", folder / "photos" / "dog" / "2.png")
    (folder / "notes.pdf").touch()
    return folder


def test_it_says_what_there_is_and_what_is_missing(omnictl: Command, files: Path) -> None:
    ended = omnictl("init", files)
    assert ended.code == 0
    text = " ".join(ended.out.split())
    for part in (
        "books │ 110,000 characters in 1 file │ pretrain",
        "photos │ 2 images: 2 labels (cat, dog) │ not usable",
        f"not usable: {files}/photos for vision: the val split",
        "left out: asr: no recordings with transcripts found left out: vision: ",
        "left out: sft: no dialogues found; without them the stages stay apart",
        "passed over: 1 .pdf files",
        "trains pretrain with preset tiny: about",
        "wrote project.toml next omnictl pipeline --config project.toml omnictl pipeline --config project.toml --max-minutes 60",
    ):
        assert part in text


def test_a_pipeline_takes_the_file_as_it_is(omnictl: Command, files: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnictl.pipeline import pipeline

    made: list[Run] = []

    def create(*args: Any, **kwargs: Any) -> Run:
        made.append(create_pipeline_run(*args, **kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "create_pipeline_run", create)
    assert omnictl("init", files, "--out", "mine.toml", "--preset", "debug").code == 0
    assert omnictl("pipeline", "--config", "mine.toml").code == 130
    config = made[0].config_file.read_text()
    assert made[0].record()["name"] == "mine"
    assert f'"source": "{files}/books"' in config


def test_as_json(omnictl: Command, files: Path) -> None:
    result = omnictl("init", files, "--out", "a.toml", "--preset", "small", "--json").json
    assert (result["file"], result["preset"], result["passed_over"]) == ("a.toml", "small", {".pdf files": 1})
    assert [(corpus["path"], corpus["kind"]) for corpus in result["corpora"]] == [
        (str(files / "books"), "text"),
        (str(files / "photos"), "images"),
    ]
    assert result["stages"]["pretrain"] == {"data": str(files / "books"), "others": [], "lacking": None, "trained": True}
    assert (result["seconds"], result["seconds_unknown"]) == ({}, ["pretrain"])


def test_the_folder_of_runs_is_no_data(omnictl: Command, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "runs" / "asr" / "1").mkdir(parents=True)
    (files / "runs" / "asr" / "1" / "a.txt").write_text("x")
    monkeypatch.chdir(files)
    monkeypatch.delenv("OMNICTL_RUNS")
    found = omnictl("init", "--json").json
    assert [Path(corpus["path"]).name for corpus in found["corpora"]] == ["books", "photos"]


def test_a_file_that_is_there_stays(omnictl: Command, files: Path) -> None:
    Path("project.toml").write_text("mine")
    ended = omnictl("init", files)
    assert (ended.code, Path("project.toml").read_text()) == (2, "mine")
    assert "project.toml is there already, and may have settings of yours" in ended.err
    assert "--out another.toml, or remove it first: rm project.toml" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ("gone", 2, ("there is no folder gone", "check the path")),
        ("a.pdf", 2, ("a.pdf is a file, and a project is made of a folder", "omnictl init .")),
        ("empty", 2, ("empty is empty", "omnictl data get --list")),
        ("pdfs", 3, ("pdfs has nothing that a stage could be trained on, only 1 .pdf files", "Recognised are", "write a manifest")),
        ("sounds", 3, ("only 1 recordings without transcripts",)),
        ("few", 3, ("few has too little", "pretrain: few has 600 characters of text, 50,000 or more", "omnictl STAGE --data PATH")),
        ("few --out my.yaml", 2, ("a project file is written as TOML, not as .yaml", "--out my.toml")),
        ("few --out gone/my.toml", 2, ("there is no folder gone", "mkdir -p gone")),
        ("few --preset tinny", 2, ("there is no preset 'tinny'", "debug, tiny, small")),
    ],
)
def test_what_is_refused(omnictl: Command, runs: Path, arguments: str, code: int, parts: tuple[str, ...]) -> None:
    for name in ("empty", "pdfs", "few", "sounds"):
        Path(name).mkdir()
    for file in ("a.pdf", "pdfs/a.pdf"):
        Path(file).touch()
    Path("few/a.txt").write_text("words " * 100)
    with wave.open("sounds/a.wav", "wb") as sound:
        sound.setparams((1, 1, 4000, 0, "NONE", ""))
    ended = omnictl("init", *arguments.split())
    assert ended.code == code
    assert all(part in ended.err for part in parts), ended.err
    assert not list(Path().glob("**/*.toml"))


@pytest.mark.slow
def test_real_data(omnictl: Command, runs: Path, test_data: Path) -> None:
    result = omnictl("init", test_data, "--json").json
    assert {stage: each["data"] and Path(each["data"]).name for stage, each in result["stages"].items()} == {
        "pretrain": "text",
        "asr": "kathleen",
        "vision": "cifar10_mini",
        "talker": "kathleen",
        "sft": None,
    }
    sizes = {Path(corpus["path"]).name: corpus["size"] for corpus in result["corpora"]}
    assert sizes["kathleen"] == "1,620 utterances, 1.37 h, 1 speaker"
    assert sizes["cifar10_mini"] == "6,000 images: 10 labels (airplane, automobile, bird, …)"
    assert list(result["seconds"]) == ["pretrain", "asr", "vision", "aligner"]
