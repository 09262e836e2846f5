import threading
from collections.abc import Iterator

import pytest
import torch
from regression import CONFIG, Regression
from torch import nn

from omnictl.trainer.config import RuntimeConfig
from omnictl.trainer.optim.lanes import Lanes, can_share_steps

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_lanes_run_at_the_same_time_and_keep_the_order() -> None:
    lanes, meeting = Lanes(2), threading.Barrier(2, timeout=60)

    def meet(number: int) -> int:
        meeting.wait()  # breaks unless both are here
        return number * number

    assert lanes.map(meet, [3, 4]) == [9, 16]
    lanes.close()


@pytest.mark.usefixtures("two_threads")
def test_each_lane_has_its_share_of_the_threads_and_the_caller_has_all_afterwards() -> None:
    lanes = Lanes(2)
    assert lanes.map(lambda _: torch.get_num_threads(), [0, 1]) == [1, 1]
    assert torch.get_num_threads() == 2
    lanes.close()


def test_an_error_is_raised_once_no_lane_works_any_more() -> None:
    lanes, done = Lanes(2), []

    def fail_or_finish(number: int) -> None:
        if number == 0:
            raise MemoryError("of the first")
        done.append(number)

    with pytest.raises(MemoryError, match="of the first"):
        lanes.map(fail_or_finish, [0, 1])
    assert done == [1]
    lanes.close()


def test_one_lane_is_the_calling_thread() -> None:
    assert Lanes(1).map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


@pytest.mark.usefixtures("two_threads")
def test_what_depends_on_the_order_of_passes_is_not_shared() -> None:
    stage = Regression()
    assert can_share_steps(stage, CONFIG, CPU)
    assert not can_share_steps(stage, CONFIG, torch.device("meta"))
    assert not can_share_steps(stage, CONFIG.model_copy(update={"runtime": RuntimeConfig(compile=True)}), CPU)
    stage.model = nn.Sequential(stage.model, nn.Dropout(0.0))
    assert can_share_steps(stage, CONFIG, CPU)
    stage.model = nn.Sequential(stage.model, nn.Dropout(0.1))
    assert not can_share_steps(stage, CONFIG, CPU)
    torch.set_num_threads(1)
    assert not can_share_steps(Regression(), CONFIG, CPU)
