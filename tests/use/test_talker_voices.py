"""A Talker's speakers as those who ask."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from omnictl.errors import UsageError
from omnictl.generate.tts import Voice
from omnictl.tinyworld.speech.utterances import reply_utterance
from omnictl.use.talker_voices import TalkerVoices

PLAN = reply_utterance(Random(0), "Hi. Ho.", "ada")


def test_speakers_are_chosen_by_name(voice: Voice) -> None:
    speakers = TalkerVoices(voice)
    assert speakers.choose([]).voices == ("ada", "ben")
    assert speakers.choose(["ben", "ben"]).voices == ("ben",)
    with pytest.raises(UsageError, match="no speaker 'eve', it knows: ada, ben"):
        speakers.choose(["eve"])
    assert TalkerVoices(replace(voice, speakers=())).choose([]).voices == ("talker",)


def test_the_same_utterance_is_said_the_same_and_faster_in_less_time(voice: Voice) -> None:
    speakers = TalkerVoices(voice)
    plans = [PLAN, PLAN, replace(PLAN, voice="ben"), replace(PLAN, rate=2 * PLAN.rate)]
    first, again, other, faster = speakers.say(plans)
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or not np.allclose(first, other)
    assert len(faster) < 0.8 * len(first)
    assert first.dtype == np.float32
    assert 0.5 < np.abs(first).max() <= 1
