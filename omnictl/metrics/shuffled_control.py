"""The permutation of the control that shuffles the inputs of a split."""

import random


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
