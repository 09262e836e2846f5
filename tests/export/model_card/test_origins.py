"""What a model was made from: all data and all models, those of its parents too."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from omnictl.export.model_card.origins import Origins, find_origins
from omnictl.runs.files import write_json
from omnictl.runs.run import Run, create_run


def make_run(root: Path, stage: str, source: str, parents: Mapping[str, Path] | None = None, **record: object) -> Run:
    """A run with the description of a model, and of the models that its parents had."""
    named = {name: str(path) for name, path in (parents or {}).items()}
    run = create_run(root, stage, "made", {"parents": named, **record})
    describe(run.model, stage, source)
    for part, path in (parents or {}).items():
        if part != "init":
            described = json.loads((path / "model" / "config.json").read_text())
            describe(run.model / part, part, described["config"]["data"]["source"])
    return run


def describe(model: Path, stage: str, source: str) -> None:
    model.mkdir(parents=True)
    train = {"batch_size": 8, "seed": 0}
    write_json(model / "config.json", {"stage": stage, "config": {"data": {"source": source}, "train": train}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_of_the_built_in_world_alone(root: Path) -> None:
    thinker = make_run(root, "pretrain", "tinyworld")
    joined = make_run(root, "sft", "tinyworld:7", {"pretrain": thinker.path})
    later = make_run(root, "sft", "tinyworld", {"init": joined.path})
    origins = find_origins(later.model)
    assert origins == Origins(("tinyworld", "tinyworld:7"), (), ())
    assert origins.built_in


def test_the_data_of_every_part_is_found(root: Path) -> None:
    thinker, ear = make_run(root, "pretrain", "tinyworld"), make_run(root, "asr", "/data/LibriSpeech")
    joined = make_run(root, "sft", "tinyworld", {"pretrain": thinker.path, "asr": ear.path})
    origins = find_origins(joined.model)
    assert set(origins.sources) == {"tinyworld", "/data/LibriSpeech"}
    assert origins.from_scratch
    assert not origins.built_in


def test_models_of_others_are_found_however_far_back(root: Path) -> None:
    imported = make_run(root, "pretrain", "/models/qwen", imported={"folder": "/models/qwen", "sha256": "0"})
    thinker = make_run(root, "pretrain", "tinyworld", {"init": imported.path})
    joined = make_run(root, "sft", "tinyworld", {"pretrain": thinker.path})
    assert find_origins(joined.model) == Origins(("tinyworld",), ("/models/qwen",), ())
    part = create_run(root, "talker", "made", {"parents": {"thinker": str(joined.model / "pretrain")}})  # a folder in a run
    describe(part.model, "talker", "tinyworld")
    assert find_origins(part.model).imported == ("/models/qwen",)


def test_what_is_gone_or_a_copy_is_not_known(root: Path, tmp_path: Path) -> None:
    gone = root / "pretrain" / "2026-01-01_00-00-00_gone"
    run = create_run(root, "sft", "made", {"parents": {"init": str(gone)}})
    describe(run.model, "sft", "tinyworld")
    assert find_origins(run.model) == Origins(("tinyworld",), (), (str(gone),))
    describe(tmp_path / "copied", "sft", "tinyworld")
    assert find_origins(tmp_path / "copied") == Origins(("tinyworld",), (), (str(tmp_path / "copied"),))
