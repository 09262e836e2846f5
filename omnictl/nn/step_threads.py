"""The threads of a step that reads a single token."""

from types import TracebackType

import torch
from torch import nn

SMALL_MODEL = 16_000_000
"""Parameters up to which several threads of a CPU wait for each other longer than they compute."""


class StepThreads:
    """One thread, while it is entered, for a small model on a CPU; it can be entered again and again.

    Several are no faster then, and twenty times slower as soon as another program wants one of the cores.

    Args:
        model: takes the steps.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        small = sum(parameter.numel() for parameter in parameters) <= SMALL_MODEL
        self._single = small and all(parameter.device.type == "cpu" for parameter in parameters)
        self._before = 1

    def __enter__(self) -> None:
        if self._single:
            self._before = torch.get_num_threads()
            torch.set_num_threads(1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._single:
            torch.set_num_threads(self._before)
