"""Stretches of audio with their mel frames."""

import numpy as np
import torch

from omnictl.data.speech.batches.crops import AudioCropBatches


def batches(seed: int = 0) -> AudioCropBatches:
    lengths = (30, 8, 50, 12)
    mels = [(1000 * i + np.arange(n)[:, None] + np.zeros((1, 3))).astype(np.float32) for i, n in enumerate(lengths)]
    recordings = [np.repeat(mel[:, 0], 5) for mel in mels]
    return AudioCropBatches(
        [mel.astype(np.float32) for mel in mels], recordings, ["a"] * len(mels), hop=5, frames=10, batch_size=4, seed=seed
    )


def test_audio_and_frames_are_of_the_same_time() -> None:
    crops = batches().collate(range(60))
    assert crops.mel.shape == (60, 10, 3)
    assert torch.equal(crops.samples, crops.mel[..., 0].repeat_interleave(5, dim=1))
    assert torch.equal(crops.mel[:, 1:, 0] - crops.mel[:, :-1, 0], torch.ones(60, 9))


def test_what_is_too_short_is_left_out_and_an_epoch_has_all_others() -> None:
    utterances = (batches().collate(range(9)).mel[:, 0, 0] // 1000).int()
    assert all(sorted(epoch) == [0, 2, 3] for epoch in utterances.reshape(3, 3).tolist())


def test_a_batch_is_a_function_of_its_ids() -> None:
    one, two = batches(), batches()
    one.collate(one.ids(5))
    assert torch.equal(one.collate([7, 2]).mel, two.collate([7, 2]).mel)
    assert not torch.equal(one.collate(range(20)).mel, batches(1).collate(range(20)).mel)
