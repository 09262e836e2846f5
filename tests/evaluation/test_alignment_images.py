"""When what is said: times of symbols and words, and their images."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from stage_factory import make_stage

from omnictl.evaluation.alignment_images import ctc_image, planned_times, symbol_times
from omnictl.generate.tts import say
from omnictl.metrics.figures import FRAME_WIDTH, TimedText, alignment_image


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_symbols_follow_one_another_between_the_edges() -> None:
    assert symbol_times("ab", [1, 2, 3, 4]) == [TimedText("a", 2, 6), TimedText("b", 6, 12)]
    with pytest.raises(ValueError, match="zip"):
        symbol_times("abc", [1, 2, 3, 4])


def test_an_image_is_as_wide_as_the_speech_is_long() -> None:
    mel = np.random.default_rng(0).normal(size=(200, 80)).astype(np.float32)
    times = [TimedText("one", 10, 60), TimedText("two", 60, 500)]  # beyond the end
    wide, _ = size_of(alignment_image("one two", mel, times))
    assert wide == 200 * FRAME_WIDTH + 24
    blank, marked = (np.asarray(Image.open(io.BytesIO(alignment_image("", mel, shown)))) for shown in ([], times))
    columns = np.flatnonzero((blank != marked).any((0, 2)))
    assert columns.min() == 12 + 10 * FRAME_WIDTH  # nothing is drawn before the first word
    assert columns.max() <= 12 + 200 * FRAME_WIDTH


def test_words_are_where_the_model_hears_them() -> None:
    stage = make_stage("asr")
    features = np.zeros((40, 80), np.float32)
    ids = stage.targets.encode("a b")
    scores = torch.full((10, stage.targets.num_symbols), -20.0)
    scores[:, 0] = 0.0  # blank, but for three frames
    for frame, symbol in zip((2, 4, 7), ids, strict=True):
        scores[frame, 0], scores[frame, symbol] = -20.0, 0.0
    shown = ctc_image(features, scores.log_softmax(-1), ids, stage.targets.decode, emissions=1, title="a b")
    empty = ctc_image(features, scores.log_softmax(-1), [], stage.targets.decode, emissions=1, title="a b")
    different = np.flatnonzero((np.asarray(Image.open(io.BytesIO(shown))) != np.asarray(Image.open(io.BytesIO(empty)))).any((0, 2)))
    assert different.min() == 12 + 2 * 4 * FRAME_WIDTH  # the second frame of the encoder, four mel frames each
    assert 12 + 7 * 4 * FRAME_WIDTH in different


def test_a_talker_plans_as_long_as_it_speaks() -> None:
    stage = make_stage("talker")
    voice = stage.voice()
    text = "two cats, one dog. yes."
    times = planned_times(voice, text, 0)
    assert "".join(time.text for time in times) == "two cats, one dog.yes."  # sentence by sentence
    assert all(one.stop <= two.start for one, two in pairwise(times))
    spoken = np.concatenate(list(say(voice, [text], torch.Generator().manual_seed(0))))
    frames = len(spoken) / voice.vocoder.sample_rate * voice.codec.config.mel.frames_hz
    assert times[-1].stop < frames + 1
    assert times[-1].stop > frames - 40  # the last edge of silence, and a frame filled up
