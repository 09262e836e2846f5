"""The memory that a training step or an evaluation will take, found by taking it with tensors that have shapes but no contents.

The stage's own loss, backward pass and optimizer run on fake tensors of the CPU, and torch's `MemTracker` adds up what lives at any
moment; nothing of that size is allocated. Of another device the figure is the same but for the workspaces of its kernels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
from torch.utils._python_dispatch import TorchDispatchMode

from omnictl.nn.batch_statistics import forget_batch_statistics
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.optim.optimizers import Optimizers
from omnictl.trainer.stage import Stage

aten = torch.ops.aten

CPU = torch.device("cpu")

SMALL = 2**20
"""Tensors of up to so many elements are made really if they depend on nothing fake: tables that outlive the trace."""

_PARTS = {
    _MemRefType.PARAM: "parameters",
    _MemRefType.BUFFER: "buffers",
    _MemRefType.GRAD: "gradients",
    _MemRefType.ACT: "activations",
    _MemRefType.TEMP: "temporary",
    _MemRefType.OPT: "optimizer",
    _MemRefType.OTH: "optimizer",  # its moments are handed to the tracker as plain tensors
}


class Untraceable(Exception):
    """Shapes depend on what the model computes, as with experts that choose their positions, or a module is passed twice."""


class Peak(NamedTuple):
    """Bytes that live at the fullest moment of a step."""

    total: int
    parts: Mapping[str, int]
    """By what they are for: parameters, buffers, gradients, optimizer, activations, temporary."""

    @property
    def model_bytes(self) -> int:
        """Bytes of parameters and buffers, which were there before the step."""
        return self.parts["parameters"] + self.parts["buffers"]

    @property
    def extra_bytes(self) -> int:
        """Bytes beyond the loaded model."""
        return self.total - self.model_bytes


def trace_step(stage: Stage, batch: Any, config: TrainConfig, *, optimizer: str, precision: Precision, accumulates: bool) -> Peak:
    """The fullest moment of a step that is not the first one, which has no moments yet.

    Args:
        stage: what is trained; neither its weights nor their gradients are touched.
        batch: a micro-batch.
        config: the training settings.
        optimizer: its kind, "adamw" or "muon".
        precision: the number format.
        accumulates: whether gradients of an earlier micro-batch are there already.

    Raises:
        Untraceable: shapes depend on contents.
    """
    stage.model.train()
    with _between_steps(stage, config, optimizer, precision) as (tracker, optimizers):
        if accumulates:
            _fill_gradients(optimizers)
        gradients = [parameter.grad for parameter in optimizers.parameters if parameter.grad is not None]
        tracker.track_external(*gradients)
        with _ComputeRealShapes(), tracker:  # type: ignore[no-untyped-call]
            with precision.autocast(CPU):
                loss = stage.loss(batch)
            torch.autograd.backward(loss.sum)
            _step(optimizers, config)
    return _peak(tracker)


def trace_passes(
    stage: Stage, passes: Iterable[Callable[[], object]], config: TrainConfig, *, optimizer: str, precision: Precision
) -> Peak:
    """The fullest moment of passes that learn nothing, one after the other, between two steps.

    Args:
        stage: what is trained; its weights are not touched.
        passes: of its model.
        config: the training settings.
        optimizer: its kind, "adamw" or "muon".
        precision: the number format.

    Raises:
        Untraceable: shapes depend on contents.
    """
    stage.model.eval()
    with (
        _between_steps(stage, config, optimizer, precision) as (tracker, _),
        _ComputeRealShapes(),  # type: ignore[no-untyped-call]
        tracker,
        torch.no_grad(),
        precision.autocast(CPU),
    ):
        for run_pass in passes:
            tracker.reset_mod_stats()  # it refuses to see a module twice
            run_pass()
    return _peak(tracker)


@contextmanager
def _between_steps(
    stage: Stage, config: TrainConfig, optimizer: str, precision: Precision
) -> Iterator[tuple[MemTracker, Optimizers]]:
    """A fake model and its optimizer, which has taken a step, and a tracker that knows them.

    Raises:
        Untraceable: shapes depend on contents.
    """
    with torch.random.fork_rng(devices=()), FakeTensorMode(allow_non_fake_inputs=True) as mode, _fake_model(stage.model, mode):
        optimizers, tracker = Optimizers(stage.model, config, optimizer, precision.optimizer_dtype), _PeakTracker()
        _fill_gradients(optimizers)
        _step(optimizers, config)
        tracker.track_external(stage.model, *optimizers.state_tensors().values())
        try:
            yield tracker, optimizers
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise Untraceable from error
        except NotImplementedError as error:  # the tracker refuses a step that passes a module twice
            raise Untraceable from error
    forget_batch_statistics(stage.model)


def _peak(tracker: MemTracker) -> Peak:
    snapshot = tracker.get_tracker_snapshot("peak")[CPU]
    parts = dict.fromkeys(_PARTS.values(), 0)
    for kind, part in _PARTS.items():
        parts[part] += snapshot[kind]
    return Peak(snapshot["Total"], parts)


def _fill_gradients(optimizers: Optimizers) -> None:
    for parameter in optimizers.parameters:
        parameter.grad = torch.zeros_like(parameter)


def _step(optimizers: Optimizers, config: TrainConfig) -> None:
    nn.utils.clip_grad_norm_(optimizers.parameters, config.clip_norm)
    for part in optimizers.parts:
        part.step()
    optimizers.average(0)
    optimizers.zero_grad()


@contextmanager
def _fake_model(model: nn.Module, mode: FakeTensorMode) -> Iterator[None]:
    """With fake parameters and buffers in the place of the model's own; what is shared stays shared."""
    fakes: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in fakes:
            with mode:  # on a CPU wherever the model is: shapes are known there, and memory is counted by device
                fake_tensor = torch.empty_like(mode.from_tensor(tensor.detach()), device=CPU)
            is_parameter = isinstance(tensor, nn.Parameter)
            fakes[id(tensor)] = nn.Parameter(fake_tensor, requires_grad=tensor.requires_grad) if is_parameter else fake_tensor
        return fakes[id(tensor)]

    holders: list[dict[str, Tensor | None]] = []
    for module in model.modules():
        holders += [module._parameters, module._buffers]  # type: ignore[list-item]
    originals = [dict(holder) for holder in holders]
    try:
        for holder in holders:
            holder.update({name: fake(tensor) for name, tensor in holder.items() if tensor is not None})
        yield
    finally:
        for holder, tensors in zip(holders, originals, strict=True):
            holder.update(tensors)


class _PeakTracker(MemTracker):  # type: ignore[no-untyped-call]
    """Keeps the peak of the whole alone: to keep that of each module, too, takes as long as all else."""

    def _update_peak_stats(self, peak_state: Any) -> None:  # noqa: ARG002
        for device, memory in self._curr_mem_snap.items():
            if self._peak_mem.get(device, 0) < memory["Total"]:
                self._peak_mem[device], self._peak_mem_snap[device] = memory["Total"], memory.copy()

    def _track_module_params_and_buffers(self, module: nn.Module, install_grad_hooks: bool = True) -> tuple[int, int]:
        """Frozen weights get no gradients to be hooked: the tracker would fail at them."""
        learns = all(parameter.requires_grad for parameter in module.parameters())
        found: tuple[int, int] = super()._track_module_params_and_buffers(module, install_grad_hooks and learns)
        return found

    def get_tracker_snapshot(self, type: str = "current") -> dict[torch.device, dict[Any, int]]:  # noqa: A002  torch's name
        """The bytes by kind on each device, now or at the peak."""
        snapshot = self._peak_mem_snap if type == "peak" else self._curr_mem_snap
        return {device: memory.copy() for device, memory in snapshot.items()}


class _ComputeRealShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What depends on the batch alone (lengths, masks, counts) is computed really, so that shapes may depend on it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        if not any(isinstance(tensor, FakeTensor) for tensor in tensors) and (tensors or _is_small(func(*args, **kwargs))):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func.overloadpacket is aten._ctc_loss:  # torch does not know the shapes of its results
            log_probs, targets = args[:2]
            frames, batch, _ = log_probs.shape
            return log_probs.new_empty(batch), log_probs.new_empty(batch, frames, 2 * targets.shape[1] + 1)
        if func.overloadpacket is aten._ctc_loss_backward:
            return torch.empty_like(args[1])
        if func is aten.index.Tensor:
            args = (args[0], [part for index in args[1] for part in _places(index)])
        return func(*args, **kwargs)


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    """Those among the arguments of an operator, which has them alone or in lists."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from _tensors(argument)


def _is_small(result: Any) -> bool:
    return isinstance(result, Tensor) and result.numel() <= SMALL


def _places(index: Tensor | None) -> tuple[Tensor | None, ...]:
    """An index as integers: of a mask, where it is true."""
    if index is None or index.dtype != torch.bool:
        return (index,)
    with unset_fake_temporarily():
        return tuple(index.nonzero().unbind(1))
