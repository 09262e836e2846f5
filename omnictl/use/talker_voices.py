"""A trained Talker's speakers as those who ask in spoken dialogues."""

from collections.abc import Iterator, Sequence

import numpy as np

from omnictl.data.audio.resample import resample
from omnictl.data.dialogues.speak.questions import Cast
from omnictl.data.export import RATE
from omnictl.data.speech.corpus import Samples
from omnictl.generate.tts import Voice
from omnictl.tinyworld.speech.acoustics import record
from omnictl.tinyworld.speech.utterances import Utterance
from omnictl.use.say import SpeechSettings, find_speaker, stream

ONLY_SPEAKER = "talker"
"""What the voice of a Talker is called whose speakers have no names."""
USUAL_RATE = 160
"""Words a minute at which a Talker says what it was trained on, more or less: faster and slower is in proportion."""


class TalkerVoices:
    """Says utterances with a Talker; rooms and microphones are those of the utterances.

    Args:
        voice: of the Talker.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    @property
    def names(self) -> tuple[str, ...]:
        """Of its speakers."""
        return self._voice.speakers or (ONLY_SPEAKER,)

    def choose(self, names: Sequence[str]) -> Cast:
        """The speakers of these names, or all.

        Raises:
            UsageError: there is no such speaker.
        """
        for name in names:
            find_speaker(self._voice, name)
        return Cast(tuple(dict.fromkeys(names)) or self.names, ())

    def say(self, plans: Sequence[Utterance]) -> Iterator[Samples]:
        """Recordings `(n,)` at `RATE` of utterances, the same for the same utterance."""
        for plan in plans:
            settings = SpeechSettings(
                speaker=plan.voice if self._voice.speakers else None, speed=plan.rate / USUAL_RATE, seed=plan.seed
            )
            clean = np.concatenate(list(stream([plan.text], self._voice, settings)))
            yield record(resample(clean, self._voice.vocoder.sample_rate, RATE), plan, RATE)
