"""The number formats of matrix products, and how fast this machine's are.

On a CPU bf16 may be twice as fast as fp32 (AMX, AVX512-BF16) or a hundred times slower, where each number is converted by hand. So
`auto` times both and says what it measured: first bare products, then, of formats that are not out of the question, whole training
steps with their optimizer. Parameters, moments, norms, softmax and losses stay in fp32 in every format (mixed precision,
Micikevicius et al. 2018).
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

import torch

from omnictl.errors import ConfigError
from omnictl.trainer.hardware.device import wait_for

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

BF16_WORTH = 1.1
"""On a CPU, bf16 must be this much faster to be taken."""

OUT_OF_THE_QUESTION = 0.5
"""A format whose bare products run at less than this share of fp32's speed is not tried on the model."""

PROBE_SIDE = 256
"""Side of the products that are timed: a few milliseconds in fp32, and a tenth of a second where a format is emulated."""

PROBE_MATRICES = 4
"""Multiplied side by side, as the optimizer does with matrices of one shape."""


class Precision(NamedTuple):
    """The chosen formats and why."""

    name: str
    """Of the model's products."""
    reason: str
    optimizer: str = "fp32"
    """Of the optimizer's own products."""
    step_seconds: float | None = None
    """What a step is expected to take in it, if that was measured."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's matrix products."""
        return DTYPES[self.name]

    @property
    def optimizer_dtype(self) -> torch.dtype:
        """The dtype of the optimizer's own matrix products."""
        return DTYPES[self.optimizer]

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which forward passes run."""
        return torch.autocast(device.type, self.dtype, enabled=self.name != "fp32")

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Loss scaling, needed (and enabled) for fp16 only."""
        return torch.amp.GradScaler(device.type, enabled=self.name == "fp16")


def choose_precision(requested: str, device: torch.device, step_seconds: Callable[[Sequence[Precision]], list[float]]) -> Precision:
    """Resolve `auto`.

    Args:
        requested: auto, fp32, fp16 or bf16.
        device: where to compute.
        step_seconds: times a training step in each of some formats; on a CPU, `auto` asks it.

    Raises:
        ConfigError: the device cannot do what was requested.
    """
    if requested == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            f"bf16 was requested, but {torch.cuda.get_device_name(device)} does not support it",
            where="train.precision",
            fix="use --set train.precision=fp16, or auto",
        )
    if device.type == "cuda":
        sixteen = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        reason = "this GPU has it" if sixteen == "bf16" else "this GPU has no bf16"
        return Precision(sixteen, reason, sixteen) if requested == "auto" else Precision(requested, "as configured", sixteen)
    if device.type != "cpu":
        return (
            Precision("fp32", f"the safe choice on {device.type}") if requested == "auto" else Precision(requested, "as configured")
        )
    rates = {name: product_rate(name) for name in ("fp32", "bf16")}
    optimizer = "bf16" if rates["bf16"] > rates["fp32"] else "fp32"
    if requested != "auto":
        return Precision(requested, "as configured", optimizer)
    gain = rates["bf16"] / rates["fp32"]
    if gain < OUT_OF_THE_QUESTION:
        return Precision("fp32", f"bf16 products run at {gain:.2g} times the speed of fp32's on this CPU", optimizer)
    return _faster_on_cpu(optimizer, step_seconds)


def _faster_on_cpu(optimizer: str, step_seconds: Callable[[Sequence[Precision]], list[float]]) -> Precision:
    names = ("fp32", "bf16")
    seconds = dict(zip(names, step_seconds([Precision(name, "trial", optimizer) for name in names]), strict=True))
    chosen = "bf16" if seconds["fp32"] >= BF16_WORTH * seconds["bf16"] else "fp32"
    reason = f"a step takes {seconds['fp32']:.3g} s in fp32, {seconds['bf16']:.3g} s in bf16 on this CPU"
    return Precision(chosen, reason, optimizer, seconds[chosen])


@cache
def product_rate(name: str) -> float:
    """Floating-point operations a second of small batched products in a format on this CPU; timed once a process."""
    a = torch.ones(PROBE_MATRICES, PROBE_SIDE, PROBE_SIDE, dtype=DTYPES[name])
    product = torch.empty_like(a)

    def run() -> None:
        torch.bmm(a, a, out=product)

    run()  # the first one prepares kernels
    return 2.0 * PROBE_MATRICES * PROBE_SIDE**3 / best_seconds(run, rounds=3)


@cache
def matmul_rate(device: torch.device) -> float:
    """Floating-point operations a second of the best 2048³ fp32 product on all threads: of ten, or of as many as half a second
    allows, three at least. Timed once a process."""
    a = torch.ones(2048, 2048, device=device)
    product = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, a, out=product)
        wait_for(device)

    return 2.0 * 2048**3 / best_seconds(run, rounds=10, within=0.5)


def best_seconds(run: Callable[[], None], *, rounds: int, within: float = math.inf) -> float:
    """What the fastest of some rounds took; after three no other one begins once they have taken `within` seconds together."""
    taken: list[float] = []
    while len(taken) < min(rounds, 3) or (len(taken) < rounds and sum(taken) < within):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)
