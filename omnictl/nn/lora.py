"""Low-rank adaptation: frozen matrices plus a trained product of two thin ones.

    W = W₀ + α / r · B · A,   A of (r, in) random, B of (out, r) zero

Source: Hu et al. 2021 (LoRA). As a parametrisation of `weight`, whatever reads the weight sees the sum. Left out on purpose:
dropout on the input, which needs the product for itself.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


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
