from itertools import pairwise

import numpy as np
import pytest
import torch

from omnictl.data.text.batches import TextBatches, evaluation_batches
from omnictl.data.text.token_store import TokenStore
from omnictl.data.text.tokenizer import END, PAD
from omnictl.errors import DataError

SHORT = np.random.default_rng(0).integers(2, 30, 60)
MIXED = np.random.default_rng(1).integers(2, 100, 60)


def store_of(lengths):
    """Documents of `lengths` predictions each, made of tokens that occur once."""
    bounds = np.concatenate(([1], 1 + np.cumsum(lengths)))
    tokens = np.arange(1000, 1000 + bounds[-1]).astype(np.uint16)
    tokens[bounds - 1] = END
    return TokenStore("train", tokens, bounds, num_bytes=0)


def batches_of(lengths, seed=3):
    return TextBatches(store_of(lengths), seq_len=32, batch_size=4, seed=seed)


def equal(one, two):
    if (one.segments is None) != (two.segments is None) or one.num_targets != two.num_targets:
        return False
    names = ("tokens", "targets", "index") + (() if one.segments is None else ("segments",))
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in names)


def reference(store, spans, seq_len):
    """One row, a position at a time."""
    rows = [(int(store.tokens[i - 1]), int(store.tokens[i]), n, i) for n, (a, b) in enumerate(spans) for i in range(a, b)]
    rows += [(PAD, -100, -1, -1)] * (seq_len - len(rows))
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("lengths", [SHORT, MIXED])
def test_collate_equals_a_plain_loop(lengths):
    batches = batches_of(lengths)
    for step in range(30):
        ids = batches.ids(step)
        batch = batches.collate(ids)
        assert batch.tokens.shape == (4, 32)
        assert batch.num_targets == int((batch.targets != -100).sum())
        for row, position in enumerate(ids):
            tokens, targets, segments, index = reference(batches.store, batches._window(position).tolist(), 32)
            assert batch.tokens[row].tolist() == tokens
            assert batch.targets[row].tolist() == targets
            assert batch.index[row].tolist() == index
            assert batch.segments is not None
            assert batch.segments[row].tolist() == segments


def test_no_segment_reaches_across_documents():
    batch = batches_of(MIXED).collate(range(20))
    for tokens, segments, index in zip(batch.tokens, batch.segments, batch.index, strict=True):
        for segment in range(int(segments.max()) + 1):
            inside = segments == segment
            assert (tokens[inside][1:] != END).all()  # an end only ever begins a piece
            assert (index[inside].diff() == 1).all()


@pytest.mark.parametrize("lengths", [SHORT, MIXED])
def test_an_epoch_predicts_each_token_once(lengths):
    batches = batches_of(lengths)
    batches.collate([2000])  # makes the starts of many epochs known
    expected = list(range(1, len(batches.store.tokens)))
    for start, stop in list(pairwise(batches._starts))[:4]:
        index = batches.collate(range(start, stop)).index
        assert sorted(index[index >= 0].tolist()) == expected


def test_epochs_differ_in_order_and_cuts():
    short, mixed = batches_of(SHORT), batches_of(MIXED)
    short.collate([0])
    size = short._starts[1]
    first, second = (short.collate(range(epoch * size, (epoch + 1) * size)).index.tolist() for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    mixed.collate([500])
    cuts = [set(mixed.collate(range(a, b)).index[:, 0].tolist()) for a, b in list(pairwise(mixed._starts))[:2]]
    assert cuts[0] != cuts[1]


@pytest.mark.parametrize("lengths", [SHORT, MIXED])
def test_a_batch_is_a_function_of_its_ids(lengths):
    straight = batches_of(lengths)
    seen = [straight.collate(straight.ids(step)) for step in range(40)]
    for step in (37, 0, 39, 5, 38):  # any order, and from a fresh start
        assert equal(straight.collate(straight.ids(step)), seen[step])
        resumed = batches_of(lengths)
        assert equal(resumed.collate(resumed.ids(step)), seen[step])
    assert not equal(seen[0], batches_of(lengths, seed=4).collate(range(4)))


def test_micro_batches_hold_the_same_windows():
    batches = batches_of(MIXED)
    whole = batches.collate(batches.ids(2))
    parts = [batches.collate(batches.ids(2)[i : i + 1]) for i in range(4)]
    assert torch.equal(whole.tokens, torch.cat([part.tokens for part in parts]))
    assert whole.num_targets == sum(part.num_targets for part in parts)


def test_one_long_document_needs_no_segments_but_at_its_ends():
    batches = batches_of([32 * 50])
    batch_by_row = [batches.collate([i]) for i in range(50)]
    padded = [batch for batch in batch_by_row if batch.segments is not None]
    assert 1 <= len(padded) <= 2
    for batch in batch_by_row:
        assert (batch.segments is None) == (batch.num_targets == 32 and len(set(batch.index.diff().tolist()[0])) == 1)


def test_evaluation_covers_the_split_once_in_order():
    store = store_of(MIXED)
    seen = list(evaluation_batches(store, seq_len=32, batch_size=7))
    assert [len(batch.tokens) for batch in seen[:-1]] == [7] * (len(seen) - 1)
    index = torch.cat([batch.index.flatten() for batch in seen])
    assert sorted(index[index >= 0].tolist()) == list(range(1, len(store.tokens)))
    firsts = torch.cat([batch.index[:, 0] for batch in seen]).tolist()
    assert firsts == sorted(firsts)
    assert sum(batch.num_targets for batch in seen) == store.num_predictions


def test_targets_are_told_from_the_token_before():
    store = store_of(SHORT)
    batch = next(evaluation_batches(store, seq_len=32, batch_size=4))
    used = batch.index >= 0
    assert torch.equal(batch.targets[used], torch.from_numpy(store.tokens.astype(np.int64))[batch.index[used]])
    starts = batch.segments.diff(prepend=torch.full((4, 1), -2)) > 0
    assert (batch.tokens[starts & used] == END).all()


def test_a_window_longer_than_the_data():
    with pytest.raises(DataError) as error:
        TextBatches(store_of([20, 11]), seq_len=32, batch_size=4, seed=0)
    assert error.value.message == "a window of 32 tokens is longer than the train split (31 tokens)"
    assert error.value.fix == "--set data.seq_len=7 or less, or give more text"
    assert error.value.where == "data.seq_len"
