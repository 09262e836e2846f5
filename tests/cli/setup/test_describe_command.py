from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stage_factory import finished_run

Command = Callable[..., Any]


@pytest.fixture
def photos(runs: Path, tmp_path: Path) -> Path:
    """Forty images in two class folders, in the working directory."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        path = tmp_path / "photos" / ("cat", "golden_retriever")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def test_people_read_what_was_made_and_what_comes_next(omnictl: Command, photos: Path) -> None:
    ended = omnictl("data", "describe", "photos", "--out", "my dialogues.jsonl")
    assert (ended.code, ended.err) == (0, "")
    lines = [line for line in ended.out.splitlines() if not line.startswith("note ")]
    assert lines[0].split() == ["dialogues", "train", "val", "test"]
    assert lines[1].split() == ["images", "36", "2", "2"]
    assert lines[2].split() == ["naming", "36", "2", "2"]
    assert lines[-3:] == ["next", "  omnictl data check 'my dialogues.jsonl'", "  omnictl sft --data 'my dialogues.jsonl'"]
    assert lines[-4].endswith("dialogues to my dialogues.jsonl")


def test_programs_get_one_object(omnictl: Command, photos: Path) -> None:
    (photos / "cat" / "0.png").write_bytes(b"broken")
    result = omnictl("data", "describe", "photos", "--out", "out/d.jsonl", "--seed", 3, "--json").json
    assert list(result) == ["source", "out", "seed", "images", "tasks", "images_copied", "set_aside", "notes", "commands"]
    assert (result["images_copied"], result["seed"]) == (39, 3)
    assert [row["id"] for row in result["set_aside"]] == ["cat/0.png"]
    assert omnictl("data", "check", "out/d.jsonl").code == 0
    shown = omnictl("data", "describe", "photos", "--out", "other.jsonl").out
    assert "set aside: 1 rows, or facts of them\nphotos/cat/0.png: " in shown


def test_refusals(omnictl: Command, photos: Path) -> None:
    ended = omnictl("data", "describe", "photos", "--out", "d.json")
    assert ended.code == 2
    assert "fix: --out d.jsonl" in ended.err
    assert omnictl("data", "describe", "photos").code == 2
    assert omnictl("data", "describe", "gone", "--out", "d.jsonl").code == 3


@pytest.mark.slow
def test_what_was_made_is_trained_on(omnictl: Command, photos: Path, runs: Path) -> None:
    assert omnictl("data", "describe", "photos", "--out", "d.jsonl", "--limit", "20").code == 0
    for stage in ("pretrain", "vision"):
        finished_run(runs, stage)
    ended = omnictl("sft", "--preset", "debug", "--data", "d.jsonl", "--max-steps", "2", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    (run,) = (runs / "sft").iterdir()
    assert (run / "model" / "model.safetensors").is_file()
    assert not (run / "quarantine.jsonl").exists() or not (run / "quarantine.jsonl").read_text()
