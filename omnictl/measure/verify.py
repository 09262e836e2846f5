"""Are the files of a run as they were written: checksums where there are any, else whether they can be read."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from omnictl.errors import OmniError
from omnictl.runs.catalogue import summarise
from omnictl.runs.checksums import begins_with, check_folder, describe_file, is_sealed
from omnictl.runs.files import read_json
from omnictl.runs.run import Run
from omnictl.runs.weights_file import WEIGHTS
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
        run.check_config()
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
    problems += _contradictions(run)
    for path in sorted(run.path.rglob("*")):
        if path.suffix in (".json", ".jsonl", ".safetensors") and run.checkpoints not in path.parents and path.name != "run.json":
            files += 1
            problem = _why_unreadable(path)
            if problem is not None:
                problems.append(f"{path.relative_to(run.path)}: {problem}")
    if not problems:  # what can be read may still not be what was written
        try:
            summarise(run)
        except OmniError as error:
            problems.append(error.message)
    return Verification(problems, notes, files)


def _contradictions(run: Run) -> list[str]:
    """What the newest whole checkpoint says of other files of a run and they deny; of the best weights, once training has ended."""
    newest = next((folder for folder in checkpoint_folders(run) if damage(folder) is None), None)
    if newest is None:
        return []
    state, problems = read_json(newest / "state.json"), []
    if state.get("metrics") is not None and not begins_with(run.metrics_file, state["metrics"]):
        problems.append(f"metrics.jsonl: up to step {state['step']} it is not as it was written")
    try:
        if state.get("best_weights") is None or run.record()["status"] != "finished":
            return problems
        if describe_file(run.model / WEIGHTS)["sha256"] != state["best_weights"]:
            problems.append(f"model: its weights are not those of step {state['best_step']}, which were the best")
        best = read_json(run.path / "best.json")
        if not isinstance(best, dict) or best.get("step") != state["best_step"]:
            problems.append(f"best.json: it does not name step {state['best_step']}, which was the best")
    except (OmniError, OSError):
        pass  # which is among the problems already
    return problems


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
    with path.open("rb") as file:  # of bytes, only a line feed ends a line
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                try:
                    json.loads(line)
                except ValueError as error:
                    return f"line {number}: {error}"
    return None
