"""Checkpoints: a folder a step, whole or absent, that brings a run back bit for bit.

    checkpoints/step-00001000/{model,optimizer,rng}.safetensors, state.json, manifest.json

Everything is written into a draft folder, flushed, described by a manifest of sizes and SHA-256 written last, and then renamed
into place; so a kill at any moment leaves either the whole checkpoint or none. No pickle: tensors go to safetensors, the rest to
JSON.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omnictl.errors import CheckpointError
from omnictl.runs.files import read_json, sync_dir, sync_file, write_json, writing
from omnictl.runs.run import Run
from omnictl.trainer.distributed.dtensor import sliced_like, whole
from omnictl.trainer.optim.optimizers import Optimizers

DRAFT = ".draft-"

FILES = {"model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"}


@dataclass
class TrainState:
    """The progress of a training; with weights, moments and generators it is all that a resume needs."""

    step: int = 0
    steps: int | None = None  # total, None until training begins
    best_step: int | None = None
    best_value: float | None = None
    scaler: dict[str, Any] | None = None  # loss scaling of fp16


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """States of torch's generators, as byte tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generator_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Take over what `generator_states` gave."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def by_rank(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The generators of all processes in one dictionary, those of the leading one by their plain names."""
    return {_of_rank(name, rank): state for rank, each in enumerate(states) for name, state in each.items()}


def _of_rank(name: str, rank: int) -> str:
    return f"{name}.{rank}" if rank else name


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights and persistent buffers, whole, contiguous and on the CPU, as safetensors wants them."""
    return {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in model.state_dict().items()}


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, with `metadata` in its header; it may still sit in the system's cache afterwards.

    Raises:
        DiskFull: no space left.
        RunError: the folder is read-only.
    """
    with writing(path):
        try:
            save_file(tensors, path, metadata)
            path.chmod(0o644)  # it is written for the owner alone
        except SafetensorError as error:  # it reports the system's refusal as text: "I/O error: … (os error 28)"
            code = re.search(r"os error (\d+)", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), str(error)) from error


def save_checkpoint(
    run: Run, model: nn.Module, optimizers: Optimizers, state: TrainState, generators: dict[str, Tensor], *, keep: int
) -> Path:
    """Write the checkpoint of `state.step`; keeps the newest `keep` and the best. Returns its folder.

    Args:
        run: where to.
        model: its weights are written.
        optimizers: their moments too.
        state: and where training stands.
        generators: of every process, as `by_rank` names them.
        keep: so many of the newest stay.

    Raises:
        DiskFull: no space left; what was there before is untouched.
        RunError: the folder is read-only.
    """
    final = run.checkpoints / _folder_name(state.step)
    draft = run.checkpoints / f"{DRAFT}{final.name}"
    weights, moments = plain_state_dict(model), optimizers.state_tensors()
    discard_drafts(run)
    try:
        with writing(run.checkpoints):
            draft.mkdir(parents=True)
        save_tensors(weights, draft / "model.safetensors")
        save_tensors(moments, draft / "optimizer.safetensors")
        save_tensors(generators, draft / "rng.safetensors")
        write_json(draft / "state.json", asdict(state))
        _seal(draft)
        with writing(run.checkpoints):
            if final.exists():  # the same step of a resumed run: the same bytes
                shutil.rmtree(final)
            draft.replace(final)
            sync_dir(run.checkpoints)
    finally:
        discard_drafts(run)
    write_json(run.path / "latest.json", {"step": state.step, "checkpoint": final.name})
    _prune(run, state, keep)
    return final


def _seal(folder: Path) -> None:
    """Flush a folder's files and describe them in its manifest, which is written last."""
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    with writing(folder):
        for path in files:
            sync_file(path)
    write_json(folder / "manifest.json", {path.name: _entry(path) for path in files})


def _entry(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard_drafts(run: Run) -> None:
    """Remove what a killed save left behind."""
    for path in run.checkpoints.glob(f"{DRAFT}*"):
        shutil.rmtree(path)


def _prune(run: Run, state: TrainState, keep: int) -> None:
    folders = [path for path in checkpoint_folders(run) if path.name <= _folder_name(state.step)]
    wanted = {path.name for path in folders[:keep]} | {_folder_name(state.best_step or 0)}
    for path in checkpoint_folders(run):  # later ones were passed over on resume: they are damaged
        if path.name not in wanted:
            shutil.rmtree(path)


def step_of(folder: Path) -> int:
    """The step whose checkpoint a folder holds."""
    return int(folder.name.removeprefix("step-"))


def _folder_name(step: int) -> str:
    return f"step-{step:08d}"


def checkpoint_folders(run: Run) -> list[Path]:
    """Finished checkpoints, newest first."""
    return sorted(run.checkpoints.glob("step-????????"), reverse=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if its manifest holds."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"no readable manifest ({error})"
    if not isinstance(manifest, dict) or set(manifest) != FILES:
        return f"its manifest does not name {', '.join(sorted(FILES))}"
    for name, entry in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if entry != _entry(path):
            return f"{name} does not match its checksum"
    return None


def newest_intact_checkpoint(run: Run, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose manifest holds; a damaged one is passed over with a warning.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    folders = checkpoint_folders(run)
    for folder in folders:
        problem = damage(folder)
        if problem is None:
            return folder
        warn(f"checkpoint {folder.name} is damaged ({problem}): taking the one before it")
    if folders:
        raise CheckpointError(
            f"all {len(folders)} checkpoints of {run.path} are damaged",
            where=str(run.checkpoints),
            fix="start a new run; --init RUN takes the weights of the run's model folder if that is whole",
        )
    return None


def load_checkpoint(folder: Path, model: nn.Module, optimizers: Optimizers, device: torch.device, *, rank: int = 0) -> TrainState:
    """Bring model, optimizers and the generators of process `rank` back to a checkpoint.

    A process that was not there when it was written keeps its generators.

    Raises:
        CheckpointError: it belongs to another model.
    """
    load_weights(folder / "model.safetensors", model)
    optimizers.load_state_tensors(load_file(folder / "optimizer.safetensors"))
    states = load_file(folder / "rng.safetensors")
    generators = {name: states[_of_rank(name, rank)] for name in ("cpu", "cuda") if _of_rank(name, rank) in states}
    set_generator_states(generators, device)
    return TrainState(**read_json(folder / "state.json"))


def load_weights(
    path: Path, model: nn.Module, adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors
) -> None:
    """Load a safetensors file into a model of exactly the same shape.

    Args:
        path: the file.
        model: takes the weights.
        adapt: what to make of the tensors found before they must fit.

    Raises:
        CheckpointError: no such file, not a safetensors file, or another model's.
    """
    try:
        tensors = adapt(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot read the weights in {path}: {error}",
            where=str(path),
            fix="name a run or model folder made by omnictl; if it was one, restore the file",
        ) from error
    model_tensors = model.state_dict()
    wrong = [
        f"{name}: found {_shape(tensors.get(name))}, expected {_shape(model_tensors.get(name))}"
        for name in sorted(model_tensors.keys() | tensors.keys())
        if _shape(tensors.get(name)) != _shape(model_tensors.get(name))
    ]
    if wrong:
        more = f"\n… and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"the weights in {path} belong to another model:\n" + "\n".join(wrong[:3]) + more,
            where=str(path),
            fix="use the config the weights were trained with (config.json beside them)",
        )
    model.load_state_dict({name: sliced_like(tensor, model_tensors[name]) for name, tensor in tensors.items()})


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else "×".join(map(str, tensor.shape))
