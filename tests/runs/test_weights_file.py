import os
import resource
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from omnictl.errors import CheckpointError
from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.runs.checksums import MANIFEST
from omnictl.runs.weights_file import read_weights
from omnictl.trainer.checkpoint import keep_weights, load_weights, plain_state_dict
from omnictl.trainer.plan.model_size_limit import limit_to_weights

SMALL = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 16, "context": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with the weights of a small Thinker."""
    keep_weights(plain_state_dict(Thinker(ThinkerConfig(**SMALL), 32)), tmp_path)
    return tmp_path


def test_the_model_that_the_weights_are_of_is_built(folder: Path) -> None:
    with limit_to_weights(folder):
        model = Thinker(ThinkerConfig(**SMALL), 32)
    load_weights(folder / "model.safetensors", model)


@pytest.mark.parametrize(
    "changed",
    [
        {"layers": 500},
        {"width": 2**16},
        {"hidden": 1_000_000, "width": 64},
        {"context": 1_000_000, "width": 2**12},
        {"vocab_size": 2**40},
        {"layers": 500, "width": 2**14},
    ],
    ids=str,
)
def test_a_larger_model_than_the_weights_are_of_is_refused_before_it_takes_memory(folder: Path, changed: dict[str, int]) -> None:
    settings = {**SMALL, **changed}
    vocab_size = settings.pop("vocab_size", 32)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    text = r"config.json describes a model of .* or more, the weights beside it have"
    with pytest.raises(CheckpointError, match=text), limit_to_weights(folder):
        Thinker(ThinkerConfig(**settings), vocab_size)
    assert time.process_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_nothing_stays_behind_when_the_block_ends(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), limit_to_weights(folder):
        raise ZeroDivisionError
    assert nn.Linear(5_000, 5_000).weight.numel() > 2**24


def test_a_folder_without_weights_yet_limits_nothing(tmp_path: Path) -> None:
    with limit_to_weights(tmp_path):
        nn.Linear(5_000, 5_000)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, b"\0" * 100, (2**60).to_bytes(8, "little") + b"{}", (99_999).to_bytes(8, "little") + b"[" * 99_999],
)
def test_a_damaged_header_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    for look in (lambda: read_weights(tmp_path / "model.safetensors"), lambda: limit_to_weights(tmp_path).__enter__()):
        with pytest.raises(CheckpointError, match="cannot read the weights in"):
            look()


def test_weights_in_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_weights(tmp_path / "model.safetensors")


def test_weights_know_that_they_had_a_manifest(folder: Path) -> None:
    read_weights(folder / "model.safetensors")
    (folder / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged: it is missing"):
        read_weights(folder / "model.safetensors")


def test_weights_of_before_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "model.safetensors")
    assert read_weights(tmp_path / "model.safetensors")["a"].tolist() == [1, 1, 1]
