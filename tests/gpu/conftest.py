"""What only a GPU can show: `pytest tests/gpu -s` on a host with one."""

import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / folder) for folder in ("trainer", "benchmarks")]  # what the tests share with others


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all of these tests where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="there is no GPU here"))


@pytest.fixture
def gpu() -> torch.device:
    """The GPU, with nothing on it."""
    torch.cuda.empty_cache()
    return torch.device("cuda", 0)
