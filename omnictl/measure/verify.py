"""Are the files of a run as they were written: checksums where there are any, else whether they can be read."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from omnictl.errors import OmniError
from omnictl.runs.checksums import check_folder, is_sealed
from omnictl.runs.files import read_json
from omnictl.runs.run import Run
from omnictl.trainer.checkpoint import FILES, checkpoint_folders, damage


class Verification(NamedTuple):
    """What is wrong with a run, what else is worth a line, and how many files were looked at."""

    problems: list[str]
    notes: list[str]
    files: int


def verify_run(run: Run) -> Verification:
    """Read all of a run's files."""
    problems: list[str] = []
    notes: list[str] = []
    files = 1
    try:
        parents = run.record().get("parents", {})
        notes += [f"its parent {name} is gone: {path}" for name, path in parents.items() if not Path(path).exists()]
    except OmniError as error:
        problems.append(error.message)
    for folder in checkpoint_folders(run):
        files += len(FILES)
        problem = damage(folder)
        if problem is not None:
            problems.append(f"checkpoint {folder.name}: {problem}")
    try:
        check_folder(run.model)
    except OmniError as error:
        problems.append(f"model: {error.message}")
    if run.model.is_dir() and not is_sealed(run.model):
        notes.append("its model folder is of before checksums: only whether it can be read is known")
    for path in sorted(run.path.rglob("*")):
        if path.suffix in (".json", ".jsonl", ".safetensors") and run.checkpoints not in path.parents and path.name != "run.json":
            files += 1
            problem = _why_unreadable(path)
            if problem is not None:
                problems.append(f"{path.relative_to(run.path)}: {problem}")
    return Verification(problems, notes, files)


def _why_unreadable(path: Path) -> str | None:
    """Why a file cannot be read; None if it can."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                tensors.keys()
        elif path.suffix == ".json":
            read_json(path)
        else:
            return _why_no_log(path)
    except OmniError as error:
        return error.message
    except (OSError, ValueError, SafetensorError) as error:
        return str(error)
    return None


def _why_no_log(path: Path) -> str | None:
    """Which line of a JSONL file is none; the last one may still be being written."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            try:
                json.loads(line)
            except ValueError as error:
                return f"line {number}: {error}"
    return None
