"""Low-rank adaptation: frozen matrices plus a trained product of two thin ones.

    W = W₀ + α / r · B · A,   A of (r, in) random, B of (out, r) zero

Source: Hu et al. 2021 (LoRA). As a parametrisation of `weight`, whatever reads the weight sees the sum. Left out on purpose:
dropout on the input, which needs the product for itself.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_FROZEN, _DOWN, _UP = (f".parametrizations.weight.{part}" for part in ("original", "0.down", "0.up"))
"""How the parts of an adapted matrix end in a `state_dict`."""


class LowRank(nn.Module):
    """Adds a product of rank r to a matrix `(out, in)`."""

    def __init__(self, matrix: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        out_width, in_width = matrix.shape
        self.down = nn.Parameter(torch.randn(rank, in_width) / math.sqrt(in_width))
        self.up = nn.Parameter(torch.zeros(out_width, rank))
        self.scale = alpha / rank

    def forward(self, matrix: Tensor) -> Tensor:
        """The adapted matrix."""
        return matrix + self.scale * (self.up @ self.down)


def adapt(model: nn.Module, rank: int, alpha: float) -> None:
    """Freeze a model, but for a low-rank part of each of its linear layers."""
    model.requires_grad_(requires_grad=False)
    for layer in [module for module in model.modules() if isinstance(module, nn.Linear)]:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, alpha))


def match_updates(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor], alpha: float, own_alpha: float) -> dict[str, Tensor]:
    """A `state_dict` as a model wants it that differs in its updates alone.

    Updates that the model has not are merged into their matrices; those that it has besides begin as they are in `like`. Those
    that both have stay what they do to their matrices, whatever the two scale them by.

    Args:
        tensors: of another model.
        like: the `state_dict` of the model, fresh.
        alpha: of the other model's updates.
        own_alpha: of the model's own ones.
    """
    matched = dict(tensors)
    for layer in [name.removesuffix(_FROZEN) for name in tensors if name.endswith(_FROZEN)]:
        if layer + _UP in like and layer + _UP in matched:
            matched[layer + _UP] = matched[layer + _UP] * (alpha / own_alpha)
        if f"{layer}.weight" in like and {layer + _DOWN, layer + _UP} <= matched.keys():
            frozen, down, up = (matched.pop(layer + part) for part in (_FROZEN, _DOWN, _UP))
            matched[f"{layer}.weight"] = frozen + alpha / len(down) * (up @ down)
    for layer in [name.removesuffix(_FROZEN) for name in like if name.endswith(_FROZEN)]:
        if f"{layer}.weight" in matched:
            matched[layer + _FROZEN] = matched.pop(f"{layer}.weight")
            matched |= {layer + part: like[layer + part] for part in (_DOWN, _UP)}
    return matched


def updates_of(model: nn.Module) -> dict[str, LowRank]:
    """The updates of a model by the name of the layer that has them."""
    return {
        name: module.parametrizations["weight"][0]
        for name, module in model.named_modules()
        if parametrize.is_parametrized(module, "weight")
    }
