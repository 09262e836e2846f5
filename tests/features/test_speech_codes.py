"""Recordings in codes: made when they are needed, which nothing that is trained may notice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stage_factory import make_stage


def test_coding_leaves_the_random_numbers_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout would go on otherwise where a split has not been coded before."""
    monkeypatch.setenv("OMNICTL_CACHE", str(tmp_path))
    stage = make_stage("talker")
    stage.batches()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = stage.validate()
    assert torch.equal(torch.random.get_rng_state(), before)
    again = make_stage("talker")
    assert again.validate().metrics == first.metrics  # from the cache
    for one, other in zip(stage.code_split("val").codes, again.code_split("val").codes, strict=True):
        assert np.array_equal(one, other)
