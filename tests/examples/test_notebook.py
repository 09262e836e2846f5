"""The notebook's cells run from top to bottom, as in a fresh kernel."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "examples" / "first_model.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from omnictl.trainer import trainer

    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)  # timing it takes longer than a debug run
    display = ModuleType("IPython.display")  # which a notebook has
    frames: list[str] = []
    display.IFrame = lambda src, **size: frames.append(src) or SimpleNamespace()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    (tmp_path / "scene.png").symlink_to(ROOT / "examples" / "scene.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in CODE:
        exec(compile(cell, "first_model.ipynb", "exec"), names)
    printed = capsys.readouterr().out
    assert "step    20: perplexity" in printed
    assert "shape: " in printed
    assert [Path(frame).is_file() for frame in frames] == [True]


def test_it_is_kept_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    kept = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in kept] == [[] for _ in kept]
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
