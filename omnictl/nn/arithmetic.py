"""What layers compute with: how many weights are multiplied, and the number format of what has to be exact."""

import torch
from torch import nn


def multiplied_weights(*modules: nn.Module) -> int:
    """Weights that take part in products wherever the modules are used: matrices and kernels, but no biases and norms."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim >= 2)


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """A float format as it is if it is fp32 or wider, else fp32."""
    return torch.promote_types(dtype, torch.float32)
