"""Speech at another speed and pitch, and text that comes in pieces."""

import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.errors import UsageError
from omnictl.generate.tts import Voice
from omnictl.use.say import SpeechSettings, SpokenStream, stream


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
