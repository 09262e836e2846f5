"""Stretches of audio to train a codec on."""

import numpy as np
import pytest
import torch

from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.batches.crops import CropBatches
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet, open_set
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.nn.audio.mel import RANGE, MelConfig


@pytest.fixture(scope="module")
def found() -> SpeechSet:
    corpus = open_speech(SpeechDataConfig(voices="one", num_utterances=12, num_eval_utterances=2))
    return open_set(corpus, "train", MelConfig(), ReadAloud(), cache_dir())


def crops(found: SpeechSet, *, seed: int = 0, frames: int = 32, dropout: float = 0.0) -> CropBatches:
    return CropBatches(found, frames=frames, batch_size=5, seed=seed, books=4, dropout=dropout)


def test_a_batch_is_a_function_of_its_ids(found: SpeechSet) -> None:
    one, two, other = crops(found), crops(found), crops(found, seed=1)
    later = one.collate(one.ids(9))
    assert torch.equal(one.collate([3, 30, 7]).mel, two.collate([3, 30, 7]).mel)
    assert torch.equal(later.mel, two.collate(two.ids(9)).mel)
    assert not torch.equal(later.mel, other.collate(other.ids(9)).mel)


def test_an_epoch_has_a_stretch_of_every_utterance(found: SpeechSet) -> None:
    batches = crops(found, frames=8)
    mel = batches.collate(range(12)).mel
    whole = [np.lib.stride_tricks.sliding_window_view(found.features(i), 8, axis=0).swapaxes(1, 2) for i in range(12)]
    homes = [next(i for i, windows in enumerate(whole) if (windows == row.numpy()).all((1, 2)).any()) for row in mel]
    assert sorted(homes) == list(range(12))


def test_short_utterances_are_filled_up_with_silence(found: SpeechSet) -> None:
    longest = int(found.lengths().max())
    mel = crops(found, frames=longest + 10).collate(range(12)).mel
    assert (mel[:, -10:] == -RANGE).all()
    assert (mel[:, :20] > -RANGE).any(2).any(1).all()


def test_some_examples_are_coded_with_fewer_books(found: SpeechSet) -> None:
    books = crops(found, dropout=0.5).collate(range(2_000)).books
    assert (crops(found).collate(range(50)).books == 4).all()
    assert 0.33 < float((books < 4).double().mean()) < 0.42  # half of them draw one of four numbers, 4 among them
    assert {int(number) for number in books} == {1, 2, 3, 4}
