"""How many threads a step of one token gets."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from omnictl.nn import step_threads


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_model_gets_one_thread_and_gives_the_others_back() -> None:
    threads = step_threads.step_threads(nn.Linear(2, 2))
    for _ in range(2):
        with threads():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), step_threads.step_threads(nn.Linear(2, 2))():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


def test_a_large_model_keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_threads, "SMALL_MODEL", 5)
    with step_threads.step_threads(nn.Linear(2, 2))():
        assert torch.get_num_threads() == 2


def test_another_device_keeps_all() -> None:
    with step_threads.step_threads(nn.Linear(2, 2, device="meta"))():
        assert torch.get_num_threads() == 2
