from collections.abc import Sequence
from itertools import product

import pytest

from omnictl.metrics.shuffled_control import exchange_inputs, shuffled_inputs


def test_everyone_is_given_the_input_of_someone_else() -> None:
    permutation = shuffled_inputs(50, seed=0)
    assert sorted(permutation) == list(range(50))
    assert all(here != there for here, there in enumerate(permutation))
    assert permutation == shuffled_inputs(50, seed=0) != shuffled_inputs(50, seed=1)
    assert [shuffled_inputs(count, seed=0) for count in (0, 1, 2)] == [[], [0], [1, 0]]


def test_inputs_that_all_differ_are_shuffled() -> None:
    assert [exchange_inputs("abcdefgh", 3)[number] for number in range(8)] == shuffled_inputs(8, 3)


@pytest.mark.parametrize("inputs", [*product("abc", repeat=5), "aaaabbbb", "aabbccccde"], ids="".join)
def test_nobody_is_given_the_input_that_it_has(inputs: Sequence[str]) -> None:
    given = exchange_inputs(inputs, seed=0)
    assert sorted(given) == sorted(given.values())
    assert all(inputs[here] != inputs[there] for here, there in given.items())
    commonest = max(map(inputs.count, inputs))
    assert len(given) == min(len(inputs), 2 * (len(inputs) - commonest))


def test_there_is_nothing_to_exchange() -> None:
    assert exchange_inputs([], 0) == exchange_inputs("a", 0) == exchange_inputs("aaa", 0) == {}
