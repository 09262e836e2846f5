"""The permutations of controls that exchange the inputs of a split."""

import random
from collections.abc import Hashable, Sequence


def shuffled_inputs(count: int, seed: int) -> list[int]:
    """One random cycle through `count` examples.

    Returns:
        Example i is given the input of example `[i]`; never its own if there are two or more.
    """
    cycle = list(range(count))
    random.Random(seed).shuffle(cycle)
    permutation = [0] * count
    for here, there in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        permutation[here] = there
    return permutation


def exchange_inputs(inputs: Sequence[Hashable], seed: int) -> dict[int, int]:
    """As `shuffled_inputs`, of examples that may share an input: each is given another one than its own.

    Returns:
        By example the one whose input it is given. Left out are examples of an input that more than half of them share, those for
        which there is no other one.
    """
    sharing: dict[Hashable, list[int]] = {}
    for number, value in enumerate(inputs):
        sharing.setdefault(value, []).append(number)
    groups = list(sharing.values())
    random.Random(seed).shuffle(groups)
    largest = max(groups, key=len, default=[])
    del largest[len(inputs) - len(largest) :]
    in_turn = [number for group in groups for number in group]
    # Who stands further on by the size of the largest group is of another group, going round too, as none has more than half.
    return {here: in_turn[(place + len(largest)) % len(in_turn)] for place, here in enumerate(in_turn)}
