"""Recordings of more frames than a Talker has positions for."""

import re

import numpy as np
import pytest

from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import DataError
from omnictl.stages import talker
from omnictl.stages.codec import PRESETS as CODECS
from omnictl.stages.talker import PRESETS, open_sayable


def test_they_are_set_aside_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    data, codec = PRESETS["debug"].data, CODECS["debug"].model
    every = open_sayable(data, codec, cache_dir()).training_set
    frames = -(-every.lengths() // codec.stride)
    most = int(np.median(frames))
    assert every.set_aside == ()
    monkeypatch.setattr(talker, "CAPACITY", most + codec.quantiser.books - 1)
    recordings = open_sayable(data, codec, cache_dir())
    kept = [row.id for row, length in zip(every.recordings, frames, strict=True) if length <= most]
    assert [row.id for row in recordings.training_set.recordings] == kept
    (reason,) = {re.sub(r"\d+\.\d", "#", row.message) for row in recordings.training_set.set_aside}
    assert reason == "too long for a Talker: # s, at most # s"
    with pytest.raises(DataError, match="too long for a Talker"):
        recordings.check()
