"""What the microphone hears: the input buffer, cut into turns by voice activity or by the client."""

from typing import Literal, NamedTuple

import numpy as np

from omnictl.data.speech.corpus import Samples
from omnictl.serve.realtime.session_schema import TurnDetection
from omnictl.serve.realtime.voice_activity import FRAME_SECONDS, WINDOW, VoiceActivity, VoiceEvent
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
    """

    def __init__(self, detection: TurnDetection | None, most_seconds: float) -> None:
        self._most = round(most_seconds * PCM_HZ)
        self._held = np.zeros(0, np.float32)
        self._taken = 0  # samples since the conversation began
        self.activity = VoiceActivity(PCM_HZ)
        self.configure(detection)

    def configure(self, detection: TurnDetection | None) -> None:
        """Take new settings."""
        self._detection = detection
        if detection is not None:
            self.activity.margin_db = detection.margin_db
            self.activity.silence_seconds = detection.silence_duration_ms / 1_000

    def push(self, samples: Samples) -> list[Heard]:
        """Take `(n,)` more samples at 24 kHz; what has changed with them.

        Raises:
            RequestError: it holds too much already.
        """
        if len(self._held) + len(samples) > self._most:
            seconds = self._most / PCM_HZ
            fix = "commit the buffer or clear it"
            raise RequestError(f"the input buffer would hold more than {seconds:.0f} s", fix=fix, where="audio")
        changes: list[Heard] = []
        step = round(FRAME_SECONDS * PCM_HZ)
        for start in range(0, len(samples), step):  # so that a turn ends where it ends, however much comes at once
            changes += self._push_frame(samples[start : start + step])
        return changes

    def _push_frame(self, samples: Samples) -> list[Heard]:
        self._held = np.concatenate([self._held, samples])
        self._taken += len(samples)
        if self._detection is None:
            return []
        changes = [self._change(event) for event in self.activity.push(samples)]
        if not self.activity.speaking:
            self._held = self._held[-self._padding :]
        return changes

    def _change(self, event: VoiceEvent) -> Heard:
        if event is VoiceEvent.STARTED:
            self._held = self._held[-self._padding :]
            return Heard("started", self._ms(self._taken - len(self._held)))
        turn, self._held = self._held, np.zeros(0, np.float32)
        return Heard("stopped", self._ms(self._taken), turn)

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
        if len(self._held) < LEAST_SECONDS * PCM_HZ:
            milliseconds = self._ms(len(self._held))
            message = f"the input buffer holds {milliseconds} ms; at least {LEAST_SECONDS * 1000:.0f} were expected"
            raise RequestError(message, fix="append audio first", code="input_audio_buffer_commit_empty")
        turn = self._held
        self.clear()
        return turn

    def clear(self) -> None:
        """Forget what was heard since the last turn."""
        self._held = np.zeros(0, np.float32)
        self.activity.reset()

    def _ms(self, samples: int) -> int:
        return round(1_000 * samples / PCM_HZ)
