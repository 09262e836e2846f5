"""The order of utterances, what batches hold, and SpecAugment's masks."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from omnictl.data.speech.batches.length_buckets import POOL
from omnictl.data.speech.batches.utterances import SpeechBatch, SpeechBatches, evaluation_batches, pad
from omnictl.data.speech.corpus import Recording, SpeechDataConfig
from omnictl.data.speech.examples import Float32, SpeechSet
from omnictl.data.speech.log_mels import FeatureStore

BINS = 12
FILL = -np.arange(1, BINS + 1, dtype=np.float32)
"""Values that no feature has."""
PLAIN = SpeechDataConfig(time_mask=0.0, frequency_mask=0)


def set_of(lengths: Sequence[int], *, speeds: Sequence[float] = (1.0,)) -> SpeechSet:
    """Utterances of these lengths; every frame tells number and speed, the target is the digits of the number plus one."""
    stores = []
    for speed in speeds:
        rows = np.tile(np.array([0, 0, *[speed] * (BINS - 2)], np.float16), (len(lengths), 1))
        rows[:, 0], rows[:, 1] = np.divmod(np.arange(len(lengths)), 100)
        frames = [np.repeat(row[None], max(1, round(length / speed)), 0) for row, length in zip(rows, lengths, strict=True)]
        bounds = np.cumsum([0, *map(len, frames)])
        stores.append(FeatureStore(np.concatenate(frames), bounds.astype(np.int64), {}, ""))
    recordings = tuple(Recording(str(n), "", None, "", None) for n in range(len(lengths)))
    targets = tuple([1 + int(digit) for digit in str(n + 1)] for n in range(len(lengths)))
    return SpeechSet(recordings, ("",) * len(lengths), targets, np.arange(len(lengths)), tuple(stores), ())


def batches_of(found: SpeechSet, batch_size: int, *, config: SpeechDataConfig = PLAIN, seed: int = 0) -> SpeechBatches:
    made = SpeechBatches(found, config, batch_size=batch_size, seed=seed)
    made.fill = FILL  # unlike any frame
    return made


def step(batches: SpeechBatches, number: int) -> SpeechBatch:
    return batches.collate(batches.ids(number))


def utterances(batch: SpeechBatch) -> list[int]:
    """Their numbers, where nothing is masked."""
    return (100 * batch.features[:, 0, 0] + batch.features[:, 0, 1]).int().tolist()


def equal(one: SpeechBatch, two: SpeechBatch) -> bool:
    names = ("features", "lengths", "targets", "target_lengths")
    return one.in_chunks == two.in_chunks and all(torch.equal(getattr(one, name), getattr(two, name)) for name in names)


@pytest.fixture(scope="module")
def lengths() -> list[int]:
    """Of 2,000 utterances of one to ten seconds."""
    return [int(length) for length in np.random.default_rng(0).integers(100, 1_000, 2_000)]


@pytest.fixture(scope="module")
def many(lengths: list[int]) -> SpeechSet:
    return set_of([length // 10 for length in lengths], speeds=(1.0, 1.25))


AUGMENTED = SpeechDataConfig(time_mask=0.2, frequency_mask=4)


def test_a_batch_is_a_function_of_its_ids(many: SpeechSet) -> None:
    one, two = (batches_of(many, 32, config=AUGMENTED) for _ in range(2))
    order = [130, 3, 200, 3, 61, 62, 0]
    asked = {number: step(one, number) for number in order}
    for number in sorted(asked):
        assert equal(step(two, number), asked[number])
        assert equal(step(one, number), asked[number])
    assert not equal(asked[61], asked[62])
    assert not equal(step(batches_of(many, 32, config=AUGMENTED, seed=1), 3), asked[3])


def test_a_micro_batch_is_a_part_of_its_batch(many: SpeechSet) -> None:
    batches = batches_of(many, 32, config=AUGMENTED)
    ids = batches.ids(5)
    whole = batches.collate(ids)
    for start in range(0, 32, 12):
        part = batches.collate(ids[start : start + 12])
        rows, longest = slice(start, start + 12), part.features.shape[1]
        assert torch.equal(part.lengths, whole.lengths[rows])
        assert torch.equal(part.target_lengths, whole.target_lengths[rows])
        assert torch.equal(part.features, whole.features[rows, :longest])
        assert not whole.features[rows, longest:].any()


def test_which_are_heard_in_chunks_does_not_depend_on_the_micro_batch(many: SpeechSet) -> None:
    batches = batches_of(many, 32)
    assert step(batches, 5).in_chunks == 0
    batches.chunk_share = 0.5
    whole = step(batches, 5)
    assert 5 < whole.in_chunks < 27
    parts = [batches.collate(batches.ids(5)[start : start + 12]) for start in range(0, 32, 12)]
    chunked = [number for part in parts for number in utterances(part)[: part.in_chunks]]
    assert sorted(chunked) == sorted(utterances(whole)[: whole.in_chunks])
    assert sorted(number for part in parts for number in utterances(part)) == sorted(utterances(whole))
    assert utterances(whole.rows(2, 5)) == utterances(whole)[2:5]


def test_an_epoch_covers_every_utterance_that_fills_a_batch(many: SpeechSet) -> None:
    batches = batches_of(many, 32)
    assert batches.order.epoch_size == 2_000 // 32 * 32 == 1_984
    epochs = []
    for epoch in range(3):
        heard = [n for number in range(62) for n in utterances(step(batches, 62 * epoch + number))]
        assert len(set(heard)) == 1_984
        epochs.append(heard)
    assert epochs[0] != epochs[1]
    left_out = [set(range(2_000)) - set(heard) for heard in epochs]
    assert not left_out[0] & left_out[1] & left_out[2]  # nothing waits for ever


def test_which_utterances_meet_changes_from_epoch_to_epoch(many: SpeechSet) -> None:
    batches = batches_of(many, 32)
    together = [{frozenset(utterances(step(batches, 62 * epoch + number))) for number in range(62)} for epoch in range(2)]
    assert not together[0] & together[1]


def test_long_and_short_batches_come_mixed(many: SpeechSet) -> None:
    batches = batches_of(many, 32)
    longest = [step(batches, number).features.shape[1] for number in range(62)]
    neighbours = np.corrcoef(longest[:-1], longest[1:])[0, 1]
    assert abs(neighbours) < 0.4


def test_little_is_padding(lengths: list[int]) -> None:
    """DESIGN promises less than 10 %."""
    batches = batches_of(set_of(lengths), 32)
    shares = []
    for epoch in range(2):
        found = [step(batches, 62 * epoch + number) for number in range(62)]
        slots = sum(batch.features.shape[0] * batch.features.shape[1] for batch in found)
        shares.append(1 - sum(int(batch.lengths.sum()) for batch in found) / slots)
    assert max(shares) < 0.10
    assert POOL * 32 < 2_000  # and not because all of them were sorted


@pytest.mark.parametrize(("count", "batch_size"), [(5, 8), (1, 4), (3, 10), (8, 8)])
def test_fewer_utterances_than_a_batch_come_again(count: int, batch_size: int) -> None:
    batches = batches_of(set_of([10 + n for n in range(count)]), batch_size)
    heard = [n for number in range(6) for n in utterances(step(batches, number))]
    assert len(heard) == 6 * batch_size
    for start in range(0, len(heard) - count + 1, count):
        assert sorted(heard[start : start + count]) == list(range(count))
    assert equal(step(batches, 0), step(batches_of(set_of([10 + n for n in range(count)]), batch_size), 0))


def test_every_speed_is_heard_equally_often(many: SpeechSet) -> None:
    batches = batches_of(many, 32)
    heard = Counter(float(row[0, 2]) for number in range(62) for row in step(batches, number).features)
    assert set(heard) == {1.0, 1.25}
    assert heard[1.25] / 1_984 == pytest.approx(0.5, abs=0.05)


def test_targets_belong_to_their_recordings(many: SpeechSet) -> None:
    batch = step(batches_of(many, 32), 7)
    for number, target, length in zip(utterances(batch), batch.targets, batch.target_lengths, strict=True):
        assert target[:length].tolist() == many.targets[number]
        assert not target[length:].any()


# SpecAugment


def masked(features: Float32, length: int) -> tuple[list[int], list[int]]:
    """Times and bins that are masked from end to end."""
    is_fill = np.isin(features[:length], FILL)
    assert np.array_equal(features[:length][is_fill], np.broadcast_to(FILL, (length, BINS))[is_fill])
    times, bins = np.asarray(is_fill.all(1)), np.asarray(is_fill.all(0))
    assert np.array_equal(is_fill, times[:, None] | bins)  # stripes and nothing else
    return np.flatnonzero(times).tolist(), np.flatnonzero(bins).tolist()


def num_runs(places: Sequence[int]) -> int:
    return sum(place - 1 not in places for place in places)


def test_masks_stay_within_their_bounds() -> None:
    found = set_of([40 + n for n in range(200)])
    batches = batches_of(found, 20, config=SpeechDataConfig(time_mask=0.1, frequency_mask=3))
    shares, widths = [], []
    for number in range(20):
        batch = step(batches, number)
        for features, length in zip(batch.features.numpy(), batch.lengths.tolist(), strict=True):
            assert not features[length:].any()
            times, bins = masked(features, length)
            assert num_runs(times) <= 2
            assert num_runs(bins) <= 2
            assert len(times) <= 2 * int(0.1 * length)
            assert len(bins) <= 2 * 3
            shares.append(len(times) / length)
            widths.append(len(bins))
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)  # two of half the longest on average
    assert np.mean(widths) == pytest.approx(2 * 1.5, abs=0.4)
    assert {0, 6} <= set(widths)


def test_masks_fall_everywhere() -> None:
    batches = batches_of(set_of([50] * 100), 20, config=SpeechDataConfig(time_mask=0.1, frequency_mask=3))
    times, bins = Counter[int](), Counter[int]()
    for number in range(50):
        batch = step(batches, number)
        for features in batch.features.numpy():
            found = masked(features, 50)
            times.update(found[0])
            bins.update(found[1])
    assert set(times) == set(range(50))
    assert set(bins) == set(range(BINS))


def test_masks_are_others_every_time_an_utterance_is_heard() -> None:
    batches = batches_of(set_of([60]), 8, config=AUGMENTED)
    masks = [masked(features, 60) for features in step(batches, 0).features.numpy()]
    assert len({str(mask) for mask in masks}) > 4


def test_masks_leave_the_stored_features_alone() -> None:
    found = set_of([60] * 8)
    before = found.stores[0].frames.copy()
    step(batches_of(found, 8, config=AUGMENTED), 0)
    assert np.array_equal(found.stores[0].frames, before)


def test_no_masks_if_none_are_wanted(many: SpeechSet) -> None:
    batch = step(batches_of(many, 32), 0)
    assert masked(batch.features[0].numpy(), int(batch.lengths[0])) == ([], [])


@pytest.mark.parametrize("frequency_mask", [BINS, 3 * BINS])
def test_a_mask_may_be_as_wide_as_the_spectrum(frequency_mask: int) -> None:
    batches = batches_of(set_of([1, 2, 30]), 3, config=SpeechDataConfig(time_mask=0.9, frequency_mask=frequency_mask))
    for number in range(10):
        for features, length in zip(*(step(batches, number).features.numpy(), step(batches, number).lengths), strict=True):
            masked(features, int(length))


# Evaluation


@pytest.mark.parametrize("frames", [1, 100, 1_000, 10**9])
def test_evaluation_reads_everything_once_as_it_is(frames: int) -> None:
    found = set_of([30, 7, 99, 7, 150, 1])
    seen = []
    for indices, batch in evaluation_batches(found, frames):
        assert len(indices) == 1 or batch.features.shape[0] * batch.features.shape[1] <= frames
        assert utterances(batch) == indices
        assert batch.lengths.tolist() == found.lengths()[indices].tolist()
        seen += indices
    assert seen == [5, 1, 3, 0, 2, 4]  # shortest first


def test_evaluation_of_nothing() -> None:
    assert list(evaluation_batches(set_of([5]).select([], []), 100)) == []


def test_padding() -> None:
    one, two = np.ones((2, BINS), np.float32), np.full((3, BINS), 2, np.float32)
    batch = pad([one, two], [[], [4, 5]])
    assert batch.features.dtype == torch.float32
    assert batch.features[:, :, 0].tolist() == [[1, 1, 0], [2, 2, 2]]
    assert batch.targets.tolist() == [[0, 0], [4, 5]]
    assert batch.lengths.tolist() == [2, 3]
    assert batch.target_lengths.tolist() == [0, 2]
    assert {batch.lengths.dtype, batch.targets.dtype, batch.target_lengths.dtype} == {torch.int64}
    assert pad([one], [[]]).targets.shape == (1, 1)
