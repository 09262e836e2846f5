"""Tensors of which a process may hold a slice (`trainer/distributed/sharding.py`): gathered, cut, and told apart.

Torch's type of them takes as long to import as half of torch, so nothing here does until there are some.
"""

import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


def is_slice(tensor: Tensor) -> bool:
    """Whether this process holds only a slice of the tensor."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def in_slices(model: nn.Module) -> bool:
    """Whether this process holds only slices of a model: it can be trained and validated, but not be asked to write."""
    return any(is_slice(parameter) for parameter in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor; of a slice, all processes must call this together."""
    slice_: Any = tensor
    full: Tensor = slice_.full_tensor() if is_slice(tensor) else tensor
    return full


def sliced_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's slice of a whole tensor, if it holds but a slice of `like`; what is of another shape stays whole."""
    if not is_slice(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415  slow

    slice_: Any = like
    return distribute_tensor(tensor.to(like.device), slice_.device_mesh, slice_.placements, src_data_rank=None)


def by_kind(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Whole parameters together, and those in slices; torch's fused operations take either, but not both at once."""
    kinds = ([p for p in parameters if not is_slice(p)], [p for p in parameters if is_slice(p)])
    return [kind for kind in kinds if kind]
