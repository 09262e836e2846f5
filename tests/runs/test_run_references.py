"""A folder of runs that is moved: parents are found where they are now."""

import json
import shutil
from pathlib import Path

import pytest

from omnictl.runs.run import Run, create_run
from omnictl.runs.run_references import find_place, place_in


def test_places_are_relative_within_the_folder_and_absolute_outside(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert place_in(root, root / "asr" / "a") == "asr/a"
    assert find_place(root, "asr/a") == root / "asr" / "a"
    assert place_in(root, tmp_path / "other" / "asr" / "a") == str(tmp_path / "other" / "asr" / "a")


def test_an_absolute_place_of_an_older_version_is_found_by_its_end(tmp_path: Path) -> None:
    root = tmp_path / "moved"
    (root / "talker" / "a" / "model" / "codec").mkdir(parents=True)
    assert find_place(root, "/gone/runs/talker/a/model/codec") == root / "talker" / "a" / "model" / "codec"
    assert find_place(root, "/gone/runs/asr/a") == Path("/gone/runs/asr/a")
    assert find_place(root, str(tmp_path)) == tmp_path  # what is there is what is meant


def test_parents_move_along(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    asr = create_run(root, "asr", "tiny", {"parents": {}})
    sft = create_run(root, "sft", "tiny", {"parents": {"asr": str(asr.path), "init": "/elsewhere/runs/sft/a"}})
    sft.update(parents={**sft.record()["parents"], "vision": str(root / "vision" / "b")}, status="finished")
    written = json.loads((sft.path / "run.json").read_text())
    assert written["parents"] == {
        "asr": f"asr/{asr.path.name}",
        "init": "/elsewhere/runs/sft/a",
        "vision": "vision/b",
    }
    moved = Path(shutil.move(root, tmp_path / "moved"))
    again = Run(moved / "sft" / sft.path.name)
    assert again.record()["parents"]["asr"] == str(moved / "asr" / asr.path.name)
    assert Run(Path(again.record()["parents"]["asr"])).stage == "asr"
    again.update(status="interrupted")
    assert json.loads((again.path / "run.json").read_text())["parents"]["asr"] == f"asr/{asr.path.name}"


def test_a_relative_path_of_a_run_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asr = create_run(Path("runs"), "asr", "tiny", {"parents": {}})
    sft = create_run(Path("runs"), "sft", "tiny", {"parents": {"asr": str(asr.path.absolute())}})
    assert sft.record()["parents"] == {"asr": str(tmp_path / "runs" / "asr" / asr.path.name)}
    assert json.loads((sft.path / "run.json").read_text())["parents"] == {"asr": f"asr/{asr.path.name}"}
