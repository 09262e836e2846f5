"""Muon: momentum whose matrix, before each step, is replaced by its polar factor, for the 2-D weights of hidden layers.

Sources: Jordan et al. 2024 (Muon); Amsel et al. 2025, arXiv 2505.16932 (Polar Express, whose polynomials are the best possible ones
for each iteration). Left out on purpose: slices of matrices, whose polar factor is not that of the whole.

`torch.optim.Muon` always multiplies in bf16, one matrix after the other. On a CPU without bf16 instructions that is fifty times
slower than fp32; here the number format is given, and matrices of one shape are multiplied in one batched product.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

MOMENTUM = 0.95

POLYNOMIALS = (
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
"""(a, b, c) of x ← a·x + b·x³ + c·x⁵ on singular values, iteration by iteration: the second to the fifth of Polar Express for
singular values between 10⁻³ and 1. The first would bring them to between 0.0083 and 1.9917, so beginning with `LARGEST` as norm
spares it; what is below a 240th of the norm then stays smaller than one."""

LARGEST = 1.9917
"""Largest singular value that the polynomials are made for."""

SAFETY = 1.01
"""Divides the norm once more: rounding must not lift a singular value over `LARGEST`, where the polynomials grow."""

TINY = 1e-7
"""Keeps the norm of a gradient of zeros from dividing by zero."""

OBLONG = 1.5
"""From this ratio of the sides on, it is cheaper to iterate on M·Mᵀ than on M; in 16 bits that is too coarse."""


def polar_flops(shape: torch.Size) -> float:
    """Floating-point operations of `polar_factor` for one matrix, in fp32."""
    small, large = sorted(map(float, shape[-2:]))
    count = len(POLYNOMIALS)
    if large < OBLONG * small:
        return count * (4.0 * small**2 * large + 2.0 * small**3)
    return 4.0 * small**2 * large + (4 * count - 4) * 2.0 * small**3


def polar_factor(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """U·Vᵀ of each M = U·S·Vᵀ, but for about a tenth of its norm: nearly all singular values become nearly one.

    Args:
        matrices: `(N, R, C)`.
        dtype: of the products. fp16 holds them, too: no entry exceeds the largest singular value.

    Returns:
        `(N, R, C)` in `dtype`.
    """
    norms = torch.linalg.matrix_norm(matrices, keepdim=True)  # (N, 1, 1), in the format of the gradients
    x = (matrices * (LARGEST / (norms * SAFETY + TINY))).to(dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT.contiguous()
    small, large = x.shape[-2:]
    by_gram = large >= OBLONG * small and x.itemsize > 2  # M·Mᵀ squares what rounding does to small singular values
    x = _turn_by_gram(x) if by_gram else _turn(x)
    return x.mT if is_tall else x


def _turn(x: Tensor) -> Tensor:
    """`(N, R, C)` after all polynomials, applied to the matrices themselves."""
    for a, b, c in POLYNOMIALS:
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _turn_by_gram(x: Tensor) -> Tensor:
    """The same by way of G = X·Xᵀ: if X ← P·X, with P = a + b·G + c·G², then G ← P·G·P, and all P together turn X at the end."""
    gram, turned = x @ x.mT, None  # (N, R, R)
    for number, (a, b, c) in enumerate(POLYNOMIALS, start=1):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        turned = polynomial if turned is None else polynomial @ turned
        if number < len(POLYNOMIALS):
            gram = polynomial @ gram @ polynomial
    assert turned is not None
    return turned @ x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; of tall matrices the rate is larger by √(rows ÷ columns).

    Its state has the names of `torch.optim.Muon`'s.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        """Optimise groups of `(R, C)` parameters; `dtype` is the number format of the products."""
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step along the gradients that there are."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._move(parameters, group["lr"], group["weight_decay"])
        return loss

    def _move(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        """Move parameters of one shape."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        moments = [self._moment(p) for p in parameters]
        torch._foreach_lerp_(moments, gradients, 1 - MOMENTUM)
        looked_ahead = torch._foreach_lerp(gradients, moments, MOMENTUM)
        directions = polar_factor(torch.stack(looked_ahead), self.dtype).to(parameters[0].dtype)
        rows, columns = parameters[0].shape
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, directions.unbind(), alpha=-lr * math.sqrt(max(1, rows / columns)))

    def _moment(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        moment: Tensor = state["momentum_buffer"]
        return moment
