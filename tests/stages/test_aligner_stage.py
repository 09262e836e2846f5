"""Durations from a recogniser's forced alignment."""

import numpy as np
import pytest
import torch
from stage_factory import make_stage, untrained

from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.errors import ConfigError
from omnictl.features.recogniser_durations import spread_durations
from omnictl.generate.ctc_search import Span
from omnictl.stages.aligner import AlignerStage, RecogniserAlignment, open_alignment


def test_a_letter_lasts_from_midway_to_midway() -> None:
    # "ab," in 20 frames; "a" is emitted at 4 to 6 (in frames at 50 Hz), "b" at 12 to 14; the mark lies between "b" and the end
    found = spread_durations([0, 1], [Span(2, 3), Span(6, 7)], 3, 20, 2.0)
    assert found.tolist() == [2, 7, 6, 3, 2]  # bounds at 2.5, 9, 14.75, 18.25, rounded


def test_every_symbol_lasts_and_all_fill_the_utterance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        letters = np.flatnonzero(rng.random(rng.integers(1, 12)) < 0.7).tolist()
        symbols = (letters[-1] + 1 if letters else 1) + int(rng.integers(3))
        frames = symbols + 2 + int(rng.integers(30))
        starts = sorted(rng.integers(0, max(1, frames // 2), len(letters)).tolist())
        found = spread_durations(letters, [Span(start, start + 1) for start in starts], symbols, frames, 2.0)
        assert len(found) == symbols + 2
        assert found.min() >= 1
        assert found.sum() == frames


def test_unknown_times_are_even() -> None:
    found = spread_durations([0, 1, 2], None, 3, 50, 2.0)
    assert found[1:-1].max() - found[1:-1].min() <= 1
    assert found.sum() == 50


def test_a_recogniser_gives_durations_of_every_utterance() -> None:
    found = make_stage("aligner").data.split("val")
    times = open_alignment(untrained("asr", cache_dir()), torch.device("cpu"), cache_dir()).durations(found)
    for time, target, length in zip(times, found.targets, found.lengths().tolist(), strict=True):
        assert len(time) == len(target)
        assert time.min() >= 1
        assert time.sum() == -(-length // 2)


def test_the_folder_says_who_aligns() -> None:
    assert isinstance(open_alignment(untrained("aligner", cache_dir()), torch.device("cpu"), cache_dir()), AlignerStage)
    assert isinstance(open_alignment(untrained("asr", cache_dir()), torch.device("cpu"), cache_dir()), RecogniserAlignment)


def test_pieces_have_no_durations_of_characters() -> None:
    stage = make_stage("asr")
    stage.config = stage.config.model_copy(update={"targets": stage.config.targets.model_copy(update={"kind": "bpe"})})
    with pytest.raises(ConfigError, match="spells bpe") as caught:
        RecogniserAlignment(stage)
    assert "targets.kind=characters" in caught.value.fix


def test_edges_are_silence() -> None:
    assert ReadAloud().encode("a")[0] == ReadAloud().encode("a")[-1] == 0
