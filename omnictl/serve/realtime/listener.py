"""What the microphone hears: the input buffer, cut into turns by voice activity or by the client."""

from typing import Literal, NamedTuple

import numpy as np

from omnictl.data.speech.corpus import Samples
from omnictl.serve.realtime.session_schema import TurnDetection
from omnictl.serve.realtime.voice_activity import FRAME_SECONDS, WINDOW, SpeechDetector, VoiceActivity, VoiceEvent
from omnictl.serve.replies.audio_formats import PCM_HZ
from omnictl.serve.traffic.errors import RequestError

LEAST_SECONDS = 0.1
"""Of a turn, as OpenAI has it."""


class Heard(NamedTuple):
    """A change in what is heard; milliseconds since the conversation began."""

    kind: Literal["started", "stopped"]
    at_ms: int
    turn: Samples | None = None
    """`(n,)` at 24 kHz, of a turn that has ended."""


class Listener:
    """Holds what was heard since the last turn.

    Args:
        detection: when a turn ends; None: when the client says so.
        most_seconds: that it holds.
        detector: tells speech from other sounds; None: by level.
    """

    def __init__(self, detection: TurnDetection | None, most_seconds: float, detector: SpeechDetector | None = None) -> None:
        self._most = round(most_seconds * PCM_HZ)
        self._held: list[Samples] = []
        self._size = 0  # samples that it holds
        self._taken = 0  # samples since the conversation began
        self._shown = 0  # of what it holds, pieces that `fresh` has given
        self.activity = VoiceActivity(PCM_HZ, detector=detector)
        self.configure(detection)

    def configure(self, detection: TurnDetection | None) -> None:
        """Take new settings."""
        self._detection = detection
        if detection is not None:
            self.activity.margin_db, self.activity.threshold = detection.margin_db, detection.threshold
            self.activity.silence_seconds = detection.silence_duration_ms / 1_000

    def check_room(self, count: int) -> None:
        """Make sure that so many more samples may come.

        Raises:
            RequestError: it holds too much already.
        """
        if self._size + count > self._most:
            seconds = self._most / PCM_HZ
            fix = "commit the buffer or clear it"
            raise RequestError(f"the input buffer would hold more than {seconds:.0f} s", fix=fix, where="audio")

    def push(self, samples: Samples) -> list[Heard]:
        """Take `(n,)` more samples at 24 kHz; what has changed with them.

        Raises:
            RequestError: it holds too much already.
        """
        self.check_room(len(samples))
        changes: list[Heard] = []
        step = round(FRAME_SECONDS * PCM_HZ)
        for start in range(0, len(samples), step):  # so that a turn ends where it ends, however much comes at once
            changes += self._push_frame(samples[start : start + step])
        return changes

    def _push_frame(self, samples: Samples) -> list[Heard]:
        self._held.append(samples)
        self._size += len(samples)
        self._taken += len(samples)
        if self._detection is None:
            return []
        changes = [self._change(event) for event in self.activity.push(samples)]
        if not self.activity.speaking:
            self._keep_padding()
        return changes

    def fresh(self) -> Samples:
        """What was heard of this turn since this was last asked for, `(n,)` at 24 kHz."""
        pieces, self._shown = self._held[self._shown :], len(self._held)
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    def _change(self, event: VoiceEvent) -> Heard:
        if event is VoiceEvent.STARTED:
            self._keep_padding()
            return Heard("started", self._ms(self._taken - self._size))
        return Heard("stopped", self._ms(self._taken), self._take())

    def _keep_padding(self) -> None:
        """Forget what was heard before a turn may have begun."""
        kept = self._take()[-self._padding :]
        self._held, self._size = [kept], len(kept)

    def _take(self) -> Samples:
        """All that it held."""
        taken = np.concatenate([np.zeros(0, np.float32), *self._held])
        self._held, self._size, self._shown = [], 0, 0
        return taken

    @property
    def _padding(self) -> int:
        """Samples that are kept from before speech was noticed."""
        assert self._detection is not None
        noticed = WINDOW * FRAME_SECONDS
        return max(1, round((self._detection.prefix_padding_ms / 1_000 + noticed) * PCM_HZ))

    def commit(self) -> Samples:
        """The turn so far, which has ended.

        Raises:
            RequestError: there is next to nothing in it.
        """
        if self._size < LEAST_SECONDS * PCM_HZ:
            milliseconds = self._ms(self._size)
            message = f"the input buffer holds {milliseconds} ms; at least {LEAST_SECONDS * 1000:.0f} were expected"
            raise RequestError(message, fix="append audio first", code="input_audio_buffer_commit_empty")
        turn = self._take()
        self.clear()
        return turn

    def clear(self) -> None:
        """Forget what was heard since the last turn."""
        self._take()
        self.activity.reset()

    def _ms(self, samples: int) -> int:
        return round(1_000 * samples / PCM_HZ)
