"""The order of training in which utterances of similar length meet."""

import numpy as np
import pytest

from omnictl.data.speech.batches.length_buckets import LengthBuckets

LENGTHS = np.random.default_rng(0).integers(20, 400, (1, 1_003))


def epoch(order: LengthBuckets, number: int) -> list[tuple[int, int]]:
    return [order.example(number * order.epoch_size + place) for place in range(order.epoch_size)]


def test_an_epoch_has_every_example_at_most_once() -> None:
    order = LengthBuckets(LENGTHS, batch_size=16, seed=3)
    found = [index for index, _ in epoch(order, 0)]
    assert len(found) == len(set(found)) == 1_003 // 16 * 16
    assert sorted(found) != sorted(index for index, _ in epoch(order, 1))  # what waits is not always the same


def test_batches_are_of_similar_length() -> None:
    order = LengthBuckets(LENGTHS, batch_size=16, seed=3)
    lengths = np.array([LENGTHS[0, index] for index, _ in epoch(order, 0)]).reshape(-1, 16)
    assert 1 - lengths.sum() / (lengths.max(1).sum() * 16) < 0.1
    assert np.abs(np.diff(lengths.mean(1))).mean() > 50  # and they come in no order


def test_an_example_is_a_function_of_seed_and_position() -> None:
    one, two, other = (LengthBuckets(LENGTHS, batch_size=16, seed=seed) for seed in (3, 3, 4))
    places = [5_000, 3, 992, 993, 4]
    assert [one.example(place) for place in places] == [two.example(place) for place in reversed(places)][::-1]
    assert [one.example(place) for place in places] != [other.example(place) for place in places]


@pytest.mark.parametrize("count", [1, 5, 16])
def test_few_examples_fill_batches_again_and_again(count: int) -> None:
    order = LengthBuckets(LENGTHS[:, :count], batch_size=16, seed=0)
    assert {order.example(place)[0] for place in range(2 * count)} == set(range(count))


def test_variants_are_drawn_alike() -> None:
    order = LengthBuckets(np.concatenate([LENGTHS, LENGTHS // 2]), batch_size=16, seed=3)
    assert 0.4 < np.mean([variant for _, variant in epoch(order, 0)]) < 0.6
