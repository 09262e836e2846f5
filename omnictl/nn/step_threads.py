"""Work for a single thread of a CPU: where several would only wait for each other."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

SMALL_MODEL = 16_000_000
"""Parameters up to which several threads wait for each other longer than they compute, in a step that reads a single token."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def step_threads(model: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """What a step that reads a single token is taken within: one thread, for a small model on a CPU.

    Several are no faster then, and twenty times slower as soon as another program wants one of the cores.

    Args:
        model: takes the steps.
    """
    parameters = list(model.parameters())
    small = sum(parameter.numel() for parameter in parameters) <= SMALL_MODEL
    return one_thread if small and all(parameter.device.type == "cpu" for parameter in parameters) else nullcontext
