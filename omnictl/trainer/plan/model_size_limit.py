"""A limit to the size of the models that are built, checked before their tensors take memory.

What a stranger's model folder claims is held against the header of its weights: a model that is built inside `limit_to_weights` may
hold no more numbers than the files have. What a config asks for is held against the machine's memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from omnictl.errors import CheckpointError, OutOfMemory
from omnictl.regular_files import open_regular
from omnictl.runs.weights_file import FIX, WEIGHTS

SPARE_NUMBERS = 2**24
"""So many more numbers than its weights a model may hold: tables of angles, filter banks."""

SPARE_TENSORS = 64

BYTES_A_NUMBER = 4


@contextmanager
def limit_size(numbers: int, tensors: int, refuse: Callable[[str], Exception]) -> Iterator[None]:
    """Refuse, inside the block, to build models that are larger.

    Args:
        numbers: that all of them may hold together, and one tensor alone.
        tensors: that all of them may have together as parameters.
        refuse: the error to raise, from what was asked for: "1,000 numbers".
    """
    limit = _Limit(numbers, tensors, refuse)
    hooks = [
        register_module_parameter_registration_hook(limit.on_parameter),
        register_module_buffer_registration_hook(limit.on_buffer),
    ]
    try:
        with limit:
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Size(NamedTuple):
    numbers: int
    tensors: int


def _size(path: Path) -> _Size:
    """How much a safetensors file claims to hold, from its header alone."""
    try:
        with open_regular(path):  # a pipe would block
            pass
        with safe_open(path, "pt") as header:
            shapes = [header.get_slice(name).get_shape() for name in header.keys()]  # noqa: SIM118  it is no dictionary
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"cannot read the weights in {path}: {error}", where=str(path), fix=FIX) from error
    return _Size(sum(map(prod, shapes)), len(shapes))


@contextmanager
def limit_to_weights(folder: Path) -> Iterator[None]:
    """Refuse, inside the block, to build models that are larger than the weights in a folder and its parts.

    Raises:
        CheckpointError: the config describes a larger one, or a file of weights has no readable header.
    """
    files = [file for file in (folder / WEIGHTS, *folder.glob(f"*/{WEIGHTS}"), *folder.glob(f"*/*/{WEIGHTS}")) if file.exists()]
    if not (folder / WEIGHTS).exists():  # a run before its first evaluation
        yield
        return
    sizes = [_size(file) for file in files]
    held = _Size(sum(size.numbers for size in sizes), sum(size.tensors for size in sizes))

    def refuse(wanted: str) -> CheckpointError:
        return CheckpointError(
            f"{folder}/config.json describes a model of {wanted} or more, the weights beside it have {held.numbers:,} numbers in "
            f"{held.tensors:,} tensors: they belong to another model",
            where=f"{folder}/config.json",
            fix="use the config the weights were trained with (config.json beside them)",
        )

    # An omni model holds its parts, which are built before they are joined: twice what the files have.
    with limit_size(2 * held.numbers + SPARE_NUMBERS, 2 * held.tensors + SPARE_TENSORS, refuse):
        yield


@contextmanager
def limit_to_memory() -> Iterator[None]:
    """Refuse, inside the block, to build models that do not fit into this machine's memory.

    Raises:
        OutOfMemory: the config describes a larger one.
    """
    free = psutil.virtual_memory().available

    def refuse(wanted: str) -> OutOfMemory:
        return OutOfMemory(
            f"the config describes a model of {wanted} or more, {free // 2**20:,} MiB of memory are free",
            where="model",
            fix="make it smaller: fewer layers (--set model.layers=…), or less width (--set model.width=…)",
        )

    with limit_size(free // BYTES_A_NUMBER, 10**6, refuse):
        yield


class _Limit(TorchFunctionMode):
    """Counts what is registered, and sees every tensor that is asked for before it is allocated."""

    def __init__(self, numbers: int, tensors: int, refuse: Callable[[str], Exception]) -> None:
        super().__init__()
        self._numbers, self._tensors, self._refuse = numbers, tensors, refuse
        self._held = self._parameters = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        measure = _ASKED.get(func)
        if measure is not None:
            self._refuse_above(measure(args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def on_parameter(self, module: nn.Module, name: str, parameter: Tensor | None) -> None:  # noqa: ARG002
        self._parameters += 1
        if self._parameters > self._tensors:
            raise self._refuse(f"{self._parameters:,} tensors")
        self._count(parameter)

    def on_buffer(self, module: nn.Module, name: str, buffer: Tensor | None) -> None:  # noqa: ARG002
        self._count(buffer)

    def _count(self, tensor: Tensor | None) -> None:
        if isinstance(tensor, Tensor):
            self._held += tensor.numel()
            self._refuse_above(self._held)

    def _refuse_above(self, numbers: int) -> None:
        if numbers > self._numbers:
            raise self._refuse(f"{numbers:,} numbers")


def _shape(args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    size = kwargs.get("size", args[0] if args and isinstance(args[0], (tuple, list)) else args)
    return prod(size) if all(isinstance(length, int) for length in size) else 0


def _range(args: Sequence[Any], kwargs: dict[str, Any]) -> int:  # noqa: ARG001
    if not args:  # all by name, as nobody here asks
        return 0
    start, end, step = (0, args[0], 1) if len(args) == 1 else (*args[:2], args[2] if len(args) > 2 else 1)
    return int((end - start) / step)


def _outer(args: Sequence[Any], kwargs: dict[str, Any]) -> int:  # noqa: ARG001
    return int(args[0].numel() * args[1].numel())


_ASKED: dict[Callable[..., Any], Callable[[Sequence[Any], dict[str, Any]], int]] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn), _shape),
    torch.full: lambda args, kwargs: _shape(args[:1], kwargs),
    torch.arange: _range,
    torch.outer: _outer,
}
