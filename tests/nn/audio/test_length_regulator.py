"""A text spread over time, against a loop."""

import numpy as np
import pytest

from omnictl.nn.audio.length_regulator import spread_text


@pytest.mark.parametrize("subframes", [1, 2, 4])
def test_every_subframe_knows_its_symbol_and_its_place_in_it(subframes: int) -> None:
    durations = [np.array([2, 1, 4]), np.array([1, 3]), np.array([3, 0, 2])]
    spread = spread_text(durations, subframes)
    assert spread.owner.shape[1] % subframes == 0
    assert 7 <= spread.owner.shape[1] < 7 + subframes
    for row, times in enumerate(durations):
        expected = [(owner, i, time - 1 - i) for owner, time in enumerate(times.tolist()) for i in range(time)]
        found = list(zip(*(part[row].tolist() for part in spread), strict=True))
        assert found[: len(expected)] == expected
        assert all(owner == -1 for owner, _, _ in found[len(expected) :])
