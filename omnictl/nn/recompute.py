"""Activation checkpointing: the backward pass recomputes activations instead of keeping them (Chen et al. 2016)."""

from typing import Literal, Protocol, runtime_checkable

from torch import nn

Checkpointing = Literal["off", "selective", "full"]
"""What the backward pass recomputes: nothing, the widest activations, or whole blocks."""

CHECKPOINTING: tuple[Checkpointing, ...] = ("off", "selective", "full")
"""From the fastest to the one that takes the least memory."""


@runtime_checkable
class Recomputable(Protocol):
    """A module that can do with less memory. Where it knows one kind only, `selective` is `full`."""

    checkpointing: Checkpointing


def set_checkpointing(model: nn.Module, mode: Checkpointing) -> None:
    """Set the checkpointing mode in every module of `model` that can recompute."""
    for module in model.modules():
        if isinstance(module, Recomputable):
            module.checkpointing = mode
