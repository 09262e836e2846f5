"""The Talker: what it sees and when, and that writing step by step is the same as all at once."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnictl.data.speech.batches.codes import NOTHING, CodedBatch, CodedSpeech, CodesLayout, collate_codes
from omnictl.models.talker import CAPACITY, LONGEST_DURATION, Interface, Talker, TalkerConfig, round_durations

CONFIG = TalkerConfig(layers=2, width=16, heads=2, hidden=24, text_layers=2, text_kernel=3, dropout=0.0)
INTERFACE = Interface(num_symbols=9, books=3, codes=8, subframes=2, speakers=2)
LAYOUT = CodesLayout(subframes=2, codes=8)
TIMES = (np.array([3, 2, 4, 5, 6, 2]), np.array([2, 3, 4]))


def speech() -> CodedSpeech:
    rng = np.random.default_rng(0)
    frames = [-(-int(time.sum()) // 2) for time in TIMES]
    return CodedSpeech(
        symbols=[rng.integers(9, size=len(time)).tolist() for time in TIMES],
        speakers=[0, 1],
        codes=[rng.integers(8, size=(3, count), dtype=np.int16) for count in frames],
        durations=list(TIMES),
        places=["1", "2"],
    )


def batch_of(indices: Sequence[int], found: CodedSpeech | None = None) -> CodedBatch:
    found = found or speech()
    return collate_codes(found, indices, [found.codes[index] for index in indices], LAYOUT)


def scores(talker: Talker, batch: CodedBatch) -> Tensor:
    states = talker.read(batch.symbols, batch.symbol_lengths, batch.speakers)
    frames = F.pad(talker.frames(states, batch.spread), (0, 0, 0, 2))
    found: Tensor = talker.scores(frames, batch.history)
    return found


@pytest.fixture
def talker(randomise: Callable[[nn.Module], None]) -> Talker:
    made = Talker(CONFIG, INTERFACE)
    randomise(made)
    return made.double().eval()


@torch.no_grad()
def test_a_step_sees_the_codes_before_it_and_no_others(talker: Talker) -> None:
    plain = scores(talker, batch_of([0]))[0]  # (L, K, V)
    frames = speech().codes[0].shape[1]
    for book in range(3):
        for frame in (0, 4, frames - 1):
            found = speech()
            found.codes[0][book, frame] = (found.codes[0][book, frame] + 1) % 8
            other = scores(talker, batch_of([0], found))[0]
            step = frame + book  # at which it is written
            assert torch.equal(other[: step + 1], plain[: step + 1])
            if step + 1 < len(plain):
                assert (other[step + 1] != plain[step + 1]).any()


def test_targets_are_what_the_next_step_reads() -> None:
    batch = batch_of([0, 1])
    written, read = batch.targets[..., :-1], batch.history[..., 1:]
    assert torch.equal(torch.where(written == NOTHING, 8, written), read)
    assert (batch.history[..., 0] == 8).all()


@torch.no_grad()
def test_padding_is_not_seen(talker: Talker) -> None:
    both, alone = scores(talker, batch_of([0, 1])), scores(talker, batch_of([1]))
    torch.testing.assert_close(both[1:, : alone.shape[1]], alone)
    states = [talker.read(b.symbols, b.symbol_lengths, b.speakers) for b in (batch_of([0, 1]), batch_of([1]))]
    torch.testing.assert_close(talker.log_durations(states[0])[1:, :3], talker.log_durations(states[1]))


@torch.no_grad()
def test_step_by_step_is_all_at_once(talker: Talker) -> None:
    batch = batch_of([0])
    states = talker.read(batch.symbols, batch.symbol_lengths, batch.speakers)
    frames = F.pad(talker.frames(states, batch.spread), (0, 0, 0, 2))
    whole = talker.scores(frames, batch.history)
    cache = talker.new_cache()
    steps = [talker.scores(frames[:, i : i + 1], batch.history[..., i : i + 1], cache) for i in range(frames.shape[1])]
    torch.testing.assert_close(torch.cat(steps, 1), whole)


@torch.no_grad()
def test_a_symbol_is_read_with_so_many_after_it(talker: Talker) -> None:
    symbols = torch.zeros(1, 20, dtype=torch.int64)
    length, speaker = torch.tensor([20]), torch.tensor([0])
    plain = talker.read(symbols, length, speaker)[0, 10]
    for after, differs in ((CONFIG.lookahead, True), (CONFIG.lookahead + 1, False)):
        changed = symbols.clone()
        changed[0, 10 + after] = 5
        assert bool((talker.read(changed, length, speaker)[0, 10] != plain).any()) == differs


@torch.no_grad()
def test_a_speaker_changes_everything(talker: Talker) -> None:
    batch = batch_of([0])
    one, other = (talker.read(batch.symbols, batch.symbol_lengths, torch.tensor([number])) for number in (0, 1))
    assert (one != other).any(-1).all()


@torch.no_grad()
def test_the_text_reaches_its_frames_and_no_earlier_ones(talker: Talker) -> None:
    batch = batch_of([0])
    states = talker.read(batch.symbols, batch.symbol_lengths, batch.speakers)
    changed = states.clone()
    changed[0, 3] += 1.0  # sub-frames 9 to 13: frames 4 to 6
    differs = (talker.frames(changed, batch.spread) != talker.frames(states, batch.spread)).any(-1)[0]
    assert differs.nonzero()[:, 0].tolist() == [4, 5, 6]


def test_durations_are_whole_and_bounded() -> None:
    logs = torch.tensor([-3.0, 0.0, 0.41, 1.0, 9.0])
    assert round_durations(logs).tolist() == [1, 1, 2, 3, LONGEST_DURATION]
    assert CAPACITY > LONGEST_DURATION
