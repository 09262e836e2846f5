"""Speech in codes, as batches."""

import numpy as np
import torch

from omnictl.data.speech.batches.codes import NOTHING, CodedBatches, CodedSpeech, CodesLayout, evaluation_batches
from omnictl.nn.audio.delay_pattern import delay

LAYOUT = CodesLayout(subframes=2, codes=16)


def speech(count: int = 40) -> CodedSpeech:
    rng = np.random.default_rng(0)
    durations = [rng.integers(1, 6, rng.integers(2, 12)) for _ in range(count)]
    return CodedSpeech(
        symbols=[rng.integers(1, 30, len(time)).tolist() for time in durations],
        speakers=rng.integers(3, size=count).tolist(),
        codes=[rng.integers(16, size=(3, -(-int(time.sum()) // 2)), dtype=np.int16) for time in durations],
        durations=durations,
        places=[f"row {number}" for number in range(count)],
    )


def batches(corruption: float = 0.1, seed: int = 0) -> CodedBatches:
    return CodedBatches(speech(), LAYOUT, batch_size=8, seed=seed, corruption=corruption)


def test_a_batch_is_a_function_of_its_ids() -> None:
    one, two, other = batches(), batches(), batches(seed=1)
    one.collate(one.ids(20))
    assert torch.equal(one.collate([5, 2]).history, two.collate([5, 2]).history)
    assert not torch.equal(one.collate(range(8)).targets.sum(), other.collate(range(8)).targets.sum())


def test_what_is_read_back_is_corrupted_and_what_is_to_be_written_is_not() -> None:
    clean, noisy = batches(0.0).collate(range(40)), batches(0.3).collate(range(40))
    assert torch.equal(clean.targets, noisy.targets)
    there = clean.history != LAYOUT.codes
    changed = (clean.history != noisy.history)[there].double().mean()
    assert 0.24 < float(changed) < 0.32  # one in sixteen is replaced by itself
    assert torch.equal(noisy.history == LAYOUT.codes, ~there)


def test_a_batch_holds_its_utterances() -> None:
    found, made = speech(), batches(0.0)
    batch = made.collate(range(8))
    for row in range(8):
        index = made.order.example(row)[0]
        length, symbols = int(batch.lengths[row]), int(batch.symbol_lengths[row])
        assert length == found.codes[index].shape[1]
        assert batch.symbols[row, :symbols].tolist() == list(found.symbols[index])
        assert batch.durations[row, :symbols].tolist() == found.durations[index].tolist()
        assert int(batch.speakers[row]) == found.speakers[index]
        wanted = delay(torch.from_numpy(found.codes[index])[None].long(), NOTHING)[0]
        assert torch.equal(batch.targets[row, :, : wanted.shape[1]], wanted)
        assert (batch.targets[row, :, wanted.shape[1] :] == NOTHING).all()
        assert int((batch.spread.owner[row] >= 0).sum()) == int(found.durations[index].sum())


def test_evaluation_meets_everything_once() -> None:
    seen: list[int] = []
    for indices, batch in evaluation_batches(speech(), LAYOUT, 60):
        assert len(indices) == 1 or len(indices) * int(batch.lengths.max()) <= 60
        seen += indices
    assert sorted(seen) == list(range(40))
