"""Speech at another speed and pitch, and text that comes in pieces."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.errors import UsageError
from omnictl.generate.griffin_lim import GriffinLim
from omnictl.generate.tts import Voice
from omnictl.models.codec import Codec, CodecConfig
from omnictl.models.talker import Interface, Talker, TalkerConfig
from omnictl.nn.rvq import QuantiserConfig
from omnictl.use.say import SpeechSettings, SpokenStream, stream


@pytest.fixture
def voice(randomise: Callable[[nn.Module], None]) -> Voice:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(width=8, layers=1, fine_layers=1, quantiser=QuantiserConfig(books=1, codes=8, width=4)))
    interface = Interface(ReadAloud.num_symbols, books=1, codes=8, subframes=2, speakers=2)
    talker = Talker(TalkerConfig(layers=1, width=8, heads=1, hidden=8, text_layers=1), interface)
    randomise(talker)
    talker.expect_durations(2.0)  # long enough for rounding not to matter
    return Voice(talker.eval(), codec.eval(), GriffinLim(codec.config.mel, rounds=1), longest=40, speakers=("ada", "ben"))


def say(voice: Voice, settings: SpeechSettings, text: str = "Hi. Ho.") -> NDArray[np.float32]:
    return np.concatenate(list(stream([text], voice, settings)))


@pytest.mark.parametrize("pitch", [-4.0, 4.0])
def test_a_pitch_is_what_was_said_slower_played_faster(voice: Voice, pitch: float) -> None:
    faster = 2 ** (pitch / 12)
    slower = say(voice, SpeechSettings(speed=1 / faster))
    assert len(say(voice, SpeechSettings(pitch=pitch))) == pytest.approx(len(slower) / faster, rel=1e-3)


def test_twice_the_speed_takes_less_time(voice: Voice) -> None:
    assert len(say(voice, SpeechSettings(speed=2))) < 0.8 * len(say(voice, SpeechSettings()))


def test_a_pitch_of_zero_changes_nothing(voice: Voice) -> None:
    np.testing.assert_array_equal(say(voice, SpeechSettings(pitch=0.0)), say(voice, SpeechSettings()))


def test_speakers_are_known_by_name(voice: Voice) -> None:
    first, ada, ben = (say(voice, SpeechSettings(speaker=name)) for name in (None, "ada", "ben"))
    np.testing.assert_array_equal(first, ada)
    assert len(ada) != len(ben) or not np.allclose(ada, ben)
    with pytest.raises(UsageError, match="no speaker 'eve', it knows: ada, ben"):
        say(voice, SpeechSettings(speaker="eve"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SpeechSettings(speed=0.0), "speed should be between 0.25 and 4, found 0"),
        (SpeechSettings(speed=float("nan")), "speed should be between 0.25 and 4, found nan"),
        (SpeechSettings(pitch=12.5), "pitch should be between -12 and 12, found 12.5"),
    ],
)
def test_what_no_one_could_hear_is_refused(voice: Voice, settings: SpeechSettings, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        say(voice, settings)


@pytest.mark.parametrize("pitch", [0.0, 5.0])
def test_sentences_are_told_with_when_they_begin(voice: Voice, pitch: float) -> None:
    spoken = SpokenStream(voice, SpeechSettings(pitch=pitch))
    for letter in "Hi. Ho there. ":
        spoken.push(letter)
        assert spoken.step() is None or spoken.sentences
    spoken.finish()
    samples = 0
    while (more := spoken.step()) is not None:
        samples += len(more)
    assert [sentence for sentence, _ in spoken.sentences][:2] == ["Hi.", " Ho there."]
    starts = [start for _, start in spoken.sentences]
    assert starts[0] == 0 < starts[1]
    assert starts == sorted(starts)
