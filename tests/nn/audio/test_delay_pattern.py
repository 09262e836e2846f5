"""The delay pattern, and what is known at each of its steps."""

import torch

from omnictl.nn.audio.delay_pattern import delay, one_later, undelay

CODES = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])


def test_book_k_comes_k_steps_later() -> None:
    assert delay(CODES, 0).tolist() == [[[1, 2, 3, 0, 0], [0, 4, 5, 6, 0], [0, 0, 7, 8, 9]]]


def test_undelayed_takes_it_back() -> None:
    codes = torch.randint(9, (2, 4, 11), generator=torch.Generator().manual_seed(0))
    assert torch.equal(undelay(delay(codes, -1)), codes)
    assert torch.equal(undelay(delay(codes[:, :1], -1)), codes[:, :1])


def test_a_step_knows_what_was_written_before_it() -> None:
    assert one_later(delay(CODES, 0), 99)[0, :, 0].tolist() == [99, 99, 99]
    assert torch.equal(one_later(delay(CODES, 0), 99)[..., 1:], delay(CODES, 0)[..., :-1])
