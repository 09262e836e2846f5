"""Disks that are full or read-only, runs that somebody else writes to, and files that are not what they should be."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from stage_factory import unseal

from omnictl.runs.run import Run

Command = Callable[..., Any]

DEBUG = ("pretrain", "--preset", "debug", "--set", "train.precision=fp32")


def error_of(ended: Any) -> Any:
    """The error of a command with `--json`, which people read too."""
    error = ended.json["error"]
    assert error["exit_code"] == ended.code
    assert f"fix: {error['fix']}" in ended.err
    assert "Traceback" not in ended.err
    return error


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def fill(self, *, leave: int) -> None:
        """Write a file that leaves so many bytes."""
        (self.path / "filler").write_bytes(bytes(shutil.disk_usage(self.path).free - leave))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of one megabyte: enough for two checkpoints of the debug preset."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root on Linux")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def hashes(run: Run) -> dict[str, str]:
    last = max(run.checkpoints.glob("step-*"))
    files = [*sorted(last.iterdir()), run.metrics_file, run.model / "model.safetensors"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_which_goes_on_once_there_is_space(omnictl: Command, disk: Disk) -> None:
    ended = omnictl(*DEBUG, "--runs", disk.path, "--json")
    error = error_of(ended)
    assert (ended.code, error["kind"]) == (7, "disk")
    assert "no space left while writing" in error["message"]
    assert str(disk.path) in error["message"]
    assert "--resume" in error["fix"]
    (path,) = (disk.path / "pretrain").iterdir()
    assert not list(path.glob("checkpoints/.draft-*"))  # nothing half-written
    assert not list(path.rglob(".*.tmp"))

    disk.remount("size=8m")
    assert omnictl("pretrain", "--resume", path).code == 0
    undisturbed = Path(omnictl(*DEBUG, "--json").json["run"])
    assert hashes(Run(path)) == hashes(Run(undisturbed))


@pytest.mark.parametrize("bytes_left", [0, 4096, 8192, 12288, 16384])
def test_a_run_that_does_not_fit_is_not_begun(omnictl: Command, disk: Disk, bytes_left: int) -> None:
    disk.fill(leave=bytes_left)
    ended = omnictl(*DEBUG, "--runs", disk.path, "--json")
    assert (ended.code, error_of(ended)["kind"]) == (7, "disk")
    assert list((disk.path / "pretrain").iterdir()) == []


def test_a_full_cache_names_the_cache(omnictl: Command, disk: Disk, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.fill(leave=4096)
    monkeypatch.setenv("OMNICTL_CACHE", str(disk.path / "cache"))
    ended = omnictl(*DEBUG, "--json")
    error = error_of(ended)
    assert (ended.code, error["kind"]) == (7, "disk")
    assert "no space left for the cache" in error["message"]
    assert "OMNICTL_CACHE" in error["fix"]
    assert not runs.exists()


@pytest.mark.slow
def test_a_run_on_a_read_only_disk(omnictl: Command, disk: Disk, trained: Path) -> None:
    path = shutil.copytree(trained, disk.path / "pretrain" / trained.name)
    disk.remount("ro")
    for arguments in (
        ["pretrain", "--resume", path, "--max-steps", 30],
        [*DEBUG, "--runs", disk.path],
        ["eval", "pretrain", "--run", path],
    ):
        ended = omnictl(*arguments, "--json")
        error = error_of(ended)
        assert (ended.code, error["kind"]) == (4, "run")
        assert f"cannot write to {disk.path}" in error["message"]
        assert "Read-only file system" in error["message"]
        assert "writable" in error["fix"]
    assert omnictl("chat", "--text", "hi", "--run", path).code == 0  # reading is enough for that


def test_a_second_process_on_one_run_is_refused(omnictl: Command, trained: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from omnictl.runs.run import Run\n"
        "with Run(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(trained)]
    record = (trained / "run.json").read_text()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        ended = omnictl("pretrain", "--resume", trained, "--max-steps", 30, "--json")
        error = error_of(ended)
        assert (ended.code, error["kind"]) == (4, "run")
        assert f"another process is writing to {trained}" in error["message"]
        assert "stop it" in error["fix"]
        assert (trained / "run.json").read_text() == record
        other.kill()  # however it dies, the lock goes with it
    assert omnictl("pretrain", "--resume", trained, "--max-steps", 21).code == 0


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign_weights(run: Path) -> None:
    save_file({"transformer.wte.weight": torch.zeros(4, 4)}, run / "model" / "model.safetensors")


def foreign_description(run: Path) -> None:
    (run / "model" / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}))


def foreign_record(run: Path) -> None:
    (run / "run.json").write_text("[1]")


def foreign_tokenizer(run: Path) -> None:
    tokenizer = json.loads((run / "model" / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["content"] = token["content"].replace("<|", "[").replace("|>", "]")
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {name.replace("<|", "[").replace("|>", "]"): index for name, index in vocabulary.items()}
    (run / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))


DAMAGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "cut weights": (lambda run: spoil(run / "model" / "model.safetensors"), ["cannot read the weights", "model.safetensors"]),
    "no weights": (lambda run: (run / "model" / "model.safetensors").unlink(), ["cannot read the weights"]),
    "foreign weights": (foreign_weights, ["belong to another model", "found nothing, expected", "more"]),
    "cut description": (lambda run: spoil(run / "model" / "config.json"), ["cannot read", "config.json"]),
    "foreign description": (foreign_description, ["describes", "expected format 1 of stage `pretrain`"]),
    "cut tokenizer": (lambda run: spoil(run / "model" / "tokenizer.json"), ["cannot read the tokenizer"]),
    "foreign tokenizer": (foreign_tokenizer, ["tokenizer of another project"]),
    "no model": (lambda run: shutil.rmtree(run / "model"), ["not a model folder"]),
    "cut record": (lambda run: spoil(run / "run.json"), ["cannot read", "run.json"]),
    "foreign record": (foreign_record, ["not the record of a run"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_model_is_named(omnictl: Command, trained: Path, damage: str) -> None:
    harm, words = DAMAGES[damage]
    unseal(trained / "model")  # else its checksums would find it first
    harm(trained)
    for arguments in (["eval", "pretrain", "--run", trained], ["chat", "--text", "hi", "--run", trained]):
        ended = omnictl(*arguments, "--json")
        error = error_of(ended)
        assert ended.code == 4
        assert error["kind"] in ("run", "checkpoint")
        assert [word for word in words if word not in error["message"]] == []
        assert error["fix"]


def test_a_run_whose_checkpoints_are_all_damaged(omnictl: Command, trained: Path) -> None:
    for weights in trained.glob("checkpoints/*/model.safetensors"):
        spoil(weights)
    ended = omnictl("pretrain", "--resume", trained, "--max-steps", 30, "--json")
    error = error_of(ended)
    assert (ended.code, error["kind"]) == (4, "checkpoint")
    assert "all 2 checkpoints" in error["message"]
    assert "--init" in error["fix"]
    assert "step-00000020 is damaged" in ended.err
    assert "model.safetensors does not match its checksum" in ended.err


def test_a_checkpoint_of_another_model(omnictl: Command, trained: Path) -> None:
    other = Path(omnictl(*DEBUG, "--set", "model.hidden=32", "--max-steps", 25, "--json").json["run"])
    shutil.copytree(other / "checkpoints" / "step-00000025", trained / "checkpoints" / "step-00000025")
    ended = omnictl("pretrain", "--resume", trained, "--max-steps", 30, "--json")
    error = error_of(ended)
    assert (ended.code, error["kind"]) == (4, "checkpoint")
    assert "belong to another model" in error["message"]
    assert "found 32×32, expected 64×32" in error["message"]


def test_weights_of_another_vocabulary_are_no_start(omnictl: Command, trained: Path, runs: Path) -> None:
    ended = omnictl(*DEBUG, "--set", "data.vocab_size=300", "--init", trained, "--json")
    error = error_of(ended)
    assert (ended.code, error["kind"]) == (2, "config")
    assert "a bpe tokenizer of 320 tokens, the config asks for bpe of 300" in error["message"]
    assert "--set data.vocab_size=320" in error["fix"]
    assert [path.name for path in (runs / "pretrain").iterdir()] == [trained.name]  # no new run
