"""Checkpoints: a folder a step, whole or absent, that brings a run back bit for bit.

    checkpoints/step-00001000/{model,optimizer,rng}.safetensors, state.json, manifest.json

Everything is written into a draft folder, flushed, described by a manifest of sizes and SHA-256 written last, and then renamed
into place; so a kill at any moment leaves either the whole checkpoint or none. No pickle: tensors go to safetensors, the rest to
JSON.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omnictl.errors import CheckpointError
from omnictl.regular_files import read_regular
from omnictl.runs.checksums import MANIFEST, check_sealed, describe_file, replace_sealed
from omnictl.runs.files import read_json, sync_dir, sync_file, write_json, writing
from omnictl.runs.run import Run
from omnictl.runs.weights_file import SEALED, WEIGHTS, check_finite, read_weights
from omnictl.trainer.distributed.dtensor import sliced_like, whole
from omnictl.trainer.optim.optimizers import Optimizers

DRAFT = ".draft-"

ASIDE = ".aside-"
"""Before the name of a checkpoint that a save of the same step is about to replace."""

FILES = {"model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"}


@dataclass
class TrainState:
    """The progress of a training; with weights, moments and generators it is all that a resume needs."""

    step: int = 0
    steps: int | None = None  # total, None until training begins
    best_step: int | None = None
    best_value: float | None = None
    scaler: dict[str, Any] | None = None  # loss scaling of fp16
    skipped: int = 0  # steps in a row, up to this one, that were not finite
    returns: int = 0  # how often the training has gone back to a checkpoint
    good_step: int | None = None  # of the checkpoint that it would go back to
    norms: list[float] = field(default_factory=list)  # of the gradients of recent steps
    best_weights: str | None = None  # SHA-256 of the model folder's, those of `best_step`
    metrics: dict[str, Any] | None = None  # size and SHA-256 of the log so far


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


def keep_weights(tensors: dict[str, Tensor], folder: Path) -> None:
    """Replace the weights of a model folder, durably; a power cut at any moment leaves the old ones or these.

    Raises:
        DiskFull: no space left; the old ones are untouched.
        RunError: the folder is read-only.
    """
    draft = folder / f".{WEIGHTS}.tmp"
    with writing(folder):
        try:
            save_tensors(tensors, draft, {SEALED: MANIFEST})
            sync_file(draft)
            replace_sealed(draft, folder / WEIGHTS)
        finally:
            draft.unlink(missing_ok=True)


def save_checkpoint(
    run: Run, model: nn.Module, optimizers: Optimizers, state: TrainState, generators: dict[str, Tensor], *, keep: int
) -> Path:
    """Write the checkpoint of `state.step`; keeps the newest `keep`, the best and the good one. Returns its folder.

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
    final = checkpoint_of(run, state.step)
    draft = run.checkpoints / f"{DRAFT}{final.name}"
    weights, moments = plain_state_dict(model), optimizers.state_tensors()
    discard_drafts(run)
    try:
        with writing(run.checkpoints):
            run.checkpoints.mkdir(exist_ok=True)
            _check_space(run.checkpoints, (*weights.values(), *moments.values(), *generators.values()))
            draft.mkdir()
        save_tensors(weights, draft / "model.safetensors")
        save_tensors(moments, draft / "optimizer.safetensors")
        save_tensors(generators, draft / "rng.safetensors")
        write_json(draft / "state.json", asdict(state))
        _seal(draft)
        with writing(run.checkpoints):
            aside = run.checkpoints / f"{ASIDE}{final.name}"
            if final.exists():  # the same step, saved again
                final.replace(aside)
            draft.replace(final)
            sync_dir(run.checkpoints)
    finally:
        discard_drafts(run)
    write_json(run.path / "latest.json", {"step": state.step, "checkpoint": final.name})
    _prune(run, state, keep)
    return final


def _check_space(folder: Path, tensors: Iterable[Tensor]) -> None:
    """Refuse to begin what cannot be finished.

    Raises:
        OSError: there is less space on the disk than the tensors take.
    """
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _seal(folder: Path) -> None:
    """Flush a folder's files and describe them in its manifest, which is written last."""
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    with writing(folder):
        for path in files:
            sync_file(path)
        entries = {path.name: describe_file(path) for path in files}
    write_json(folder / MANIFEST, entries)


def discard_drafts(run: Run) -> None:
    """Remove what a killed save left behind; what it had put aside for a new one that never came is put back.

    Raises:
        RunError: the folder is read-only.
    """
    with writing(run.checkpoints):
        for path in run.checkpoints.glob(f"{ASIDE}*"):
            final = path.with_name(path.name.removeprefix(ASIDE))
            if final.exists():
                shutil.rmtree(path)
            else:
                path.replace(final)
        for path in run.checkpoints.glob(f"{DRAFT}*"):
            if path.is_dir():
                shutil.rmtree(path)
        for path in (*run.path.glob(".*.tmp"), *run.model.glob(".*.tmp")):
            path.unlink(missing_ok=True)


def _prune(run: Run, state: TrainState, keep: int) -> None:
    folders = [path for path in checkpoint_folders(run) if path.name <= _folder_name(state.step)]
    wanted = {path.name for path in folders[:keep]} | {_folder_name(step or 0) for step in (state.best_step, state.good_step)}
    with writing(run.checkpoints):
        for path in checkpoint_folders(run):  # later ones were passed over on resume: they are damaged
            if path.name not in wanted:
                shutil.rmtree(path)


def step_of(folder: Path) -> int:
    """The step whose checkpoint a folder holds."""
    return int(folder.name.removeprefix("step-"))


def checkpoint_of(run: Run, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run.checkpoints / _folder_name(step)


def _folder_name(step: int) -> str:
    return f"step-{step:08d}"


def checkpoint_folders(run: Run) -> list[Path]:
    """Finished checkpoints, newest first; whatever else lies beside them is none of ours."""
    return sorted((path for path in run.checkpoints.glob("step-*") if _is_checkpoint(path)), reverse=True)


def _is_checkpoint(path: Path) -> bool:
    return re.fullmatch(r"step-\d{8}", path.name, re.ASCII) is not None and path.is_dir()


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if its manifest holds and it is of the step that its folder names."""
    try:
        manifest = json.loads(read_regular(folder / MANIFEST))
    except (OSError, ValueError, RecursionError) as error:
        return f"no readable manifest ({error})"
    if not isinstance(manifest, dict) or set(manifest) != FILES:
        return f"its manifest does not name {', '.join(sorted(FILES))}"
    for name, entry in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if entry != describe_file(path):
            return f"{name} does not match its checksum"
    step = read_json(folder / "state.json")["step"]
    return None if step == step_of(folder) else f"it is the checkpoint of step {step}, in another's folder"


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


def mend_model(
    run: Run, newest: Path, model: nn.Module, optimizers: Optimizers, state: TrainState, note: Callable[[str], None]
) -> None:
    """Write the best weights anew where those in the model folder are damaged, if there is a checkpoint of their step.

    Args:
        run: whose model folder.
        newest: its newest checkpoint, which model and optimizers hold, before and afterwards.
        model: of the run.
        optimizers: of the run.
        state: of that checkpoint.
        note: takes a line about it.
    """
    problem = None if state.best_step is None else _weights_problem(run.model)
    if problem is None:
        return
    best = next((folder for folder in checkpoint_folders(run) if step_of(folder) == state.best_step), None)
    if best is None or damage(best) is not None:
        note(f"{problem}; no whole checkpoint has the weights of step {state.best_step}: only better ones will replace them")
        return
    device = next(model.parameters()).device
    load_checkpoint(best, model, optimizers, device)
    with optimizers.use_averages():
        keep_weights(plain_state_dict(model), run.model)
    load_checkpoint(newest, model, optimizers, device)
    note(f"{problem}; written anew from checkpoint {best.name}")


def _weights_problem(folder: Path) -> str | None:
    """Why the weights of a model folder are not as they were written, None if they are or nobody can tell."""
    try:
        check_sealed(folder / WEIGHTS)
    except CheckpointError as error:
        return error.message
    except OSError as error:
        return f"cannot read {folder / WEIGHTS}: {error.strerror}"
    return None


def load_weights(
    path: Path, model: nn.Module, adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors
) -> None:
    """Load a safetensors file into a model of exactly the same shape.

    Args:
        path: the file.
        model: takes the weights.
        adapt: what to make of the tensors found before they must fit.

    Raises:
        CheckpointError: no such file, not a safetensors file, not as it was written, another model's, or with numbers that are not
            finite.
    """
    tensors = adapt(read_weights(path))
    model_tensors = model.state_dict()
    wrong = [
        f"{name}: found {found}, expected {expected}"
        for name in sorted(model_tensors.keys() | tensors.keys())
        for found, expected in [_differences(tensors.get(name), model_tensors.get(name))]
        if found != expected
    ]
    if wrong:
        more = f"\n… and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"the weights in {path} belong to another model:\n" + "\n".join(wrong[:3]) + more,
            where=str(path),
            fix="use the config the weights were trained with (config.json beside them)",
        )
    check_finite(tensors, path)
    model.load_state_dict({name: sliced_like(tensor, model_tensors[name]) for name, tensor in tensors.items()})


def _differences(found: Tensor | None, expected: Tensor | None) -> tuple[str, str]:
    """What two tensors are, in words that are equal if one can become the other: any floating-point format can become another."""
    if found is None or expected is None:
        return _shape(found), _shape(expected)
    convertible = found.dtype == expected.dtype or (found.is_floating_point() and expected.is_floating_point())
    if convertible:
        return _shape(found), _shape(expected)
    return f"{_shape(found)} of {_dtype(found)}", f"{_shape(expected)} of {_dtype(expected)}"


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else "×".join(map(str, tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
