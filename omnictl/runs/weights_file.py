"""Weights in safetensors, believed only after a look."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from omnictl.errors import CheckpointError
from omnictl.regular_files import open_regular
from omnictl.runs.checksums import check_sealed, note_unsealed

WEIGHTS = "model.safetensors"

SEALED = "checksums"
"""A key of the metadata of weights that lie in a folder with a manifest."""

FIX = "name a run or model folder made by omnictl; if it was one, restore the file"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after its checksum was compared, if it has one.

    Raises:
        CheckpointError: no such file, not a safetensors file, or not as it was written.
    """
    try:
        with open_regular(path):  # a pipe would block
            pass
        check_sealed(path)
        with safe_open(path, "pt") as header:
            note_unsealed(path.parent, was_sealed=SEALED in (header.metadata() or {}))
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"cannot read the weights in {path}: {error}", where=str(path), fix=FIX) from error


def check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that no training leaves behind.

    Raises:
        CheckpointError: some are NaN or infinite.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        count = int((~torch.isfinite(tensor)).sum())
        raise CheckpointError(
            f"the weights in {path} are not all finite: {count:,} of the {tensor.numel():,} numbers of {name} are NaN or infinite",
            where=str(path),
            fix="restore the file from where it came, or choose another run",
        )
