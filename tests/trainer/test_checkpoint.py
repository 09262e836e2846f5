import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import CONFIG, Regression, new_run
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omnictl.errors import CheckpointError, DiskFull, RunError
from omnictl.runs.run import Run
from omnictl.trainer import checkpoint
from omnictl.trainer.checkpoint import (
    TrainState,
    checkpoint_folders,
    damage,
    generator_states,
    keep_weights,
    load_checkpoint,
    load_weights,
    mend_model,
    newest_intact_checkpoint,
    save_checkpoint,
)
from omnictl.trainer.optim.optimizers import Optimizers

CPU = torch.device("cpu")
FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"]


class Saver:
    """A small training under way, and its run."""

    def __init__(self, root: Path) -> None:
        self.stage = Regression()
        self.run = new_run(root, self.stage)
        self.optimizers = Optimizers(self.stage.model, CONFIG, "adamw")

    def move(self) -> None:
        torch.autograd.backward(self.stage.loss(torch.arange(8)).sum * torch.rand(()))
        self.optimizers.parts[0].step()
        self.optimizers.zero_grad()

    def save(self, step: int, *, best: int | None = None, keep: int = 2) -> Path:
        self.move()
        state = TrainState(step=step, steps=99, best_step=best, best_value=0.1)
        return save_checkpoint(self.run, self.stage.model, self.optimizers, state, generator_states(CPU), keep=keep)


@pytest.fixture
def saver(tmp_path: Path) -> Saver:
    torch.manual_seed(0)
    return Saver(tmp_path)


def steps_kept(run: Run) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in run.checkpoints.iterdir())


def newest(run: Run) -> tuple[str | None, list[str]]:
    warnings: list[str] = []
    found = newest_intact_checkpoint(run, warnings.append)
    return found.name if found else None, warnings


def test_everything_comes_back_bit_for_bit(saver: Saver) -> None:
    state = TrainState(step=7, steps=None, best_step=5, best_value=0.1 + 0.2, scaler={"scale": 1024.0})
    for _ in range(3):
        saver.move()
    folder = save_checkpoint(saver.run, saver.stage.model, saver.optimizers, state, generator_states(CPU), keep=2)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    expected = everything(saver.stage.model, saver.optimizers)

    other = Regression()
    optimizers = Optimizers(other.model, CONFIG, "adamw")
    torch.manual_seed(99)
    assert load_checkpoint(folder, other.model, optimizers, CPU) == state
    got = everything(other.model, optimizers)
    assert got.keys() == expected.keys()
    assert len(got) > 20
    for name, tensor in got.items():
        assert torch.equal(tensor, expected[name]), name


def everything(model: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """Copies of all that decides how training goes on."""
    tensors = {**model.state_dict(), **optimizers.state_tensors(), "random numbers": torch.rand(5)}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def test_the_manifest_describes_every_other_file(saver: Saver) -> None:
    folder = saver.save(3)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest) == [name for name in FILES if name != "manifest.json"]
    assert manifest["state.json"]["bytes"] == (folder / "state.json").stat().st_size
    assert len(manifest["state.json"]["sha256"]) == 64
    assert json.loads((saver.run.path / "latest.json").read_text()) == {"step": 3, "checkpoint": "step-00000003"}


def test_the_newest_and_the_best_are_kept(saver: Saver) -> None:
    for step in range(1, 8):
        saver.save(step, best=min(step, 3))
    assert steps_kept(saver.run) == [3, 6, 7]
    saver.save(8, best=8, keep=4)
    assert steps_kept(saver.run) == [3, 6, 7, 8]
    saver.save(9, best=8)
    assert steps_kept(saver.run) == [8, 9]


@pytest.mark.parametrize("die", [OSError(errno.EIO, os.strerror(errno.EIO)), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_a_step_that_cannot_be_saved_again_keeps_what_was_saved(
    saver: Saver, die: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {file.name: file.read_bytes() for file in saver.save(4).iterdir()}
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name.startswith(checkpoint.DRAFT):
            raise die
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((OSError, RunError, KeyboardInterrupt)):
        saver.save(4)
    assert [folder.name for folder in saver.run.checkpoints.iterdir()] == ["step-00000004"]
    assert {file.name: file.read_bytes() for file in (saver.run.checkpoints / "step-00000004").iterdir()} == whole


def test_saving_a_step_again_replaces_it(saver: Saver) -> None:
    saver.save(1)
    before = load_file(saver.save(2) / "model.safetensors")
    after = load_file(saver.save(2) / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert steps_kept(saver.run) == [1, 2]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [truncate, flip_a_bit, empty, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(saver: Saver, name: str, harm: Callable[[Path], None]) -> None:
    saver.save(1)
    folder = saver.save(2)
    if (name, harm) == ("manifest.json", truncate):
        truncate(folder / name)  # the last byte of a JSON file is only its newline
    harm(folder / name)
    found, warnings = newest(saver.run)
    assert found == "step-00000001"
    assert len(warnings) == 1
    assert warnings[0].startswith("checkpoint step-00000002 is damaged (")
    assert warnings[0].endswith("): taking the one before it")
    if name == "manifest.json":
        expected = "no readable manifest" if harm in (truncate, empty, Path.unlink) else ""
    else:
        expected = f"{name} is missing" if harm is Path.unlink else f"{name} does not match its checksum"
    assert expected in warnings[0]


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"model.safetensors": {}}', '{"model.safetensors": 3}'])
def test_a_manifest_of_another_form_is_damage(saver: Saver, content: str) -> None:
    folder = saver.save(1)
    (folder / "manifest.json").write_text(content)
    assert damage(folder) is not None


def test_any_flipped_bit_in_the_manifest_is_damage(saver: Saver) -> None:
    path = saver.save(1) / "manifest.json"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            changed = json.loads(path.read_bytes()) != json.loads(content)
        except ValueError:
            changed = True
        assert (damage(path.parent) is not None) == changed, place  # white space between values is free


def test_when_all_are_damaged_it_says_what_is_left(saver: Saver) -> None:
    for step in (1, 2):
        truncate(saver.save(step) / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        newest(saver.run)
    assert caught.value.message == f"all 2 checkpoints of {saver.run.path} are damaged"
    assert caught.value.where == str(saver.run.checkpoints)
    assert caught.value.fix == "start a new run; --init RUN takes the weights of the run's model folder if that is whole"


def test_no_checkpoint_is_no_error(saver: Saver) -> None:
    assert newest(saver.run) == (None, [])


def test_a_checkpoint_just_written_outlives_damaged_later_ones(saver: Saver) -> None:
    for step in (5, 10, 15):
        saver.save(step, best=5)
    for step in (10, 15):
        truncate(saver.run.checkpoints / f"step-{step:08d}" / "model.safetensors")
    assert newest(saver.run)[0] == "step-00000005"
    saver.save(7, best=5)  # the run, resumed at 5, is stopped at 7
    assert newest(saver.run)[0] == "step-00000007"


def test_drafts_of_a_killed_save_are_removed_and_never_taken(saver: Saver) -> None:
    saver.save(1)
    draft = saver.run.checkpoints / ".draft-step-00000002"
    shutil.copytree(saver.run.checkpoints / "step-00000001", draft)
    assert newest(saver.run)[0] == "step-00000001"
    saver.save(3)
    assert not draft.exists()


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    save_file({"0.weight": torch.zeros(4, 3), "0.bias": torch.zeros(5), "2.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(path, model)
    assert caught.value.message == (
        f"the weights in {path} belong to another model:\n"
        "0.bias: found 5, expected 4\n"
        "1.weight: found nothing, expected 2×4\n"
        "2.weight: found 1, expected nothing"
    )
    assert caught.value.fix == "use the config the weights were trained with (config.json beside them)"
    assert caught.value.exit_code == 4
    for one, two in zip(model.parameters(), before, strict=True):
        assert torch.equal(one, two)


def test_of_many_differences_three_are_named(tmp_path: Path) -> None:
    save_file({f"x{n}": torch.zeros(1) for n in range(6)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"… and 5 more$") as caught:
        load_weights(tmp_path / "a.safetensors", nn.Linear(1, 1))
    assert len(caught.value.message.splitlines()) == 5


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_weights(path, nn.Linear(1, 1))
    assert caught.value.message.startswith(f"cannot read the weights in {path}: ")
    assert caught.value.fix == "name a run or model folder made by omnictl; if it was one, restore the file"


def test_a_checkpoint_in_the_folder_of_another_step_is_damaged(saver: Saver) -> None:
    first, second = saver.save(1), saver.save(2)
    first.rename(first.with_name("aside"))
    second.rename(first)
    first.with_name("aside").rename(second)
    assert damage(second) == "it is the checkpoint of step 1, in another's folder"
    with pytest.raises(CheckpointError, match="all 2 checkpoints"):
        newest(saver.run)


def test_what_else_lies_beside_checkpoints_stays_there(saver: Saver) -> None:
    folder = saver.save(1)
    strange = ["step-old-copy", "step-0000000x", "step-000000001", "step-1", ".draft-x"]
    for name in strange[:-1]:
        shutil.copytree(folder, saver.run.checkpoints / name)
    (saver.run.checkpoints / strange[-1]).write_text("a file")
    (saver.run.checkpoints / "step-00000009").write_text("a file")
    for step in (2, 3, 4):
        saver.save(step)
    assert checkpoint_folders(saver.run) == [saver.run.checkpoints / f"step-0000000{step}" for step in (4, 3)]
    assert all((saver.run.checkpoints / name).exists() for name in [*strange, "step-00000009"])


def test_weights_of_another_kind_of_number_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1, 1, dtype=torch.int8), "bias": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_weights(tmp_path / "a.safetensors", nn.Linear(1, 1))
    assert caught.value.message.endswith("belong to another model:\nweight: found 1×1 of int8, expected 1×1 of float32")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.tensor([[1.0, value, value]]), "bias": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(path, nn.Linear(3, 1))
    assert caught.value.message == f"the weights in {path} are not all finite: 2 of the 3 numbers of weight are NaN or infinite"


def test_damaged_weights_of_the_model_folder_come_back_from_their_checkpoint(saver: Saver) -> None:
    best = saver.save(1)
    keep_weights(load_file(best / "model.safetensors"), saver.run.model)
    newest_folder = saver.save(2, best=1)
    whole = (saver.run.model / "model.safetensors").read_bytes()
    before = everything(saver.stage.model, saver.optimizers)
    state, notes = TrainState(step=2, best_step=1), list[str]()
    mend_model(saver.run, newest_folder, saver.stage.model, saver.optimizers, state, notes.append)
    assert notes == []
    (saver.run.model / "model.safetensors").write_bytes(whole[:-1] + b"?")
    mend_model(saver.run, newest_folder, saver.stage.model, saver.optimizers, state, notes.append)
    assert (saver.run.model / "model.safetensors").read_bytes() == whole
    assert [note.partition("; ")[2] for note in notes] == ["written anew from checkpoint step-00000001"]
    after = everything(saver.stage.model, saver.optimizers)
    assert all(torch.equal(after[name], before[name]) for name in before if name != "random numbers")
    shutil.rmtree(best)
    (saver.run.model / "model.safetensors").unlink()
    mend_model(saver.run, newest_folder, saver.stage.model, saver.optimizers, state, notes.append)
    assert notes[-1].endswith("no whole checkpoint has the weights of step 1: only better ones will replace them")


def assert_nothing_half_written(run: Run) -> None:
    assert not list(run.path.rglob(".*tmp"))
    assert not list(run.checkpoints.glob(".*"))
    assert all(damage(folder) is None for folder in checkpoint_folders(run))


@pytest.mark.parametrize("call", range(11))
def test_a_disk_that_is_full_at_any_flush_is_named(saver: Saver, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    saver.save(1)
    calls = iter(range(99))

    def refuse(_descriptor: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DiskFull) as caught:
            saver.save(2)
    assert caught.value.exit_code == 7
    assert_nothing_half_written(saver.run)
    assert 1 in steps_kept(saver.run)
    saver.save(3)  # space was made
    assert newest(saver.run) == ("step-00000003", [])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_tensors_are_written_is_named(
    saver: Saver, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.save(1)

    def half(tensors: dict[str, Tensor], path: Path, metadata: None) -> None:
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half)
        with pytest.raises(DiskFull, match="no space left while writing"):
            saver.save(2)
    assert_nothing_half_written(saver.run)
    assert steps_kept(saver.run) == [1]


def test_space_is_looked_for_before_anything_is_written(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    saver.save(1)
    full = shutil.disk_usage(saver.run.path)._replace(free=100)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: full)
        patch.setattr(checkpoint, "save_file", lambda *_: pytest.fail("it began all the same"))
        with pytest.raises(DiskFull, match="no space left while writing"):
            saver.save(2)
    assert_nothing_half_written(saver.run)
    assert steps_kept(saver.run) == [1]


def test_a_read_only_run_is_named(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError) as caught:
        saver.save(1)
    assert caught.value.message == f"cannot write to {saver.run.checkpoints}: Read-only file system"


def test_other_errors_of_safetensors_are_our_bug(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise SafetensorError("invalid shape")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(SafetensorError, match="invalid shape"):
        saver.save(1)
    assert_nothing_half_written(saver.run)
