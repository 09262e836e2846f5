"""The number format of matrix products, and how fast this machine's are.

On a CPU bf16 may be twice as fast as fp32 (AMX, AVX512-BF16) or half as fast, so `auto` times both and says what it found.
Parameters, optimizer, norms, softmax and losses stay in fp32 in every format (mixed precision, Micikevicius et al. 2018).
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import torch

from omnictl.errors import ConfigError
from omnictl.train.device import wait_for

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

BF16_WORTH = 1.2
"""On a CPU, bf16 must be this much faster to be taken."""


class Precision(NamedTuple):
    """A chosen format and why."""

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of matrix products."""
        return DTYPES[self.name]

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which forward passes run."""
        return torch.autocast(device.type, self.dtype, enabled=self.name != "fp32")

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Loss scaling, needed (and enabled) for fp16 only."""
        return torch.amp.GradScaler(device.type, enabled=self.name == "fp16")


def choose_precision(requested: str, device: torch.device, trial: Callable[[Precision], None]) -> Precision:
    """Resolve `auto`.

    Args:
        requested: auto, fp32, fp16 or bf16.
        device: where to compute.
        trial: a forward and backward pass of the model to be trained; on a CPU, `auto` times it in both formats.

    Raises:
        ConfigError: the device cannot do what was requested.
    """
    if requested == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            f"bf16 was asked for, but {torch.cuda.get_device_name(device)} has none",
            where="train.precision",
            fix="use --set train.precision=fp16, or auto",
        )
    if requested != "auto":
        return Precision(requested, "as configured")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "this GPU has it")
        return Precision("fp16", "this GPU has no bf16")
    if device.type == "cpu":
        return _faster_on_cpu(trial)
    return Precision("fp32", f"the safe choice on {device.type}")


def _faster_on_cpu(trial: Callable[[Precision], None]) -> Precision:
    seconds = {}
    for name in ("fp32", "bf16"):
        candidate = Precision(name, "trial")
        trial(candidate)  # the first pass prepares kernels
        seconds[name] = best_seconds(partial(trial, candidate), rounds=2)
    gain = seconds["fp32"] / seconds["bf16"]
    return Precision("bf16" if gain >= BF16_WORTH else "fp32", f"this model runs {gain:.2f}× as fast in bf16 on this CPU")


def matmul_rate(device: torch.device) -> float:
    """Floating-point operations a second of the best of ten 2048³ fp32 products on all threads."""
    a = torch.ones(2048, 2048, device=device)
    product = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, a, out=product)
        wait_for(device)

    return 2.0 * 2048**3 / best_seconds(run, rounds=10)


def best_seconds(run: Callable[[], None], *, rounds: int) -> float:
    """What the fastest of some rounds took."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
