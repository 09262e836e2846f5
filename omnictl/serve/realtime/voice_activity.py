"""When somebody begins and ends to speak, from the level of what a microphone hears.

Speech is what stands out of the quietest moments of the last seconds, or what a detector takes for speech. While a reply is being
played, it must also be louder than the reply's echo in the microphone may be. What turns out to be steady noise when it has ended
(`use.transcribe.is_silent`) is not answered.
"""

from collections import deque
from enum import Enum, auto
from typing import Protocol

import numpy as np

from omnictl.data.speech.corpus import Samples

FRAME_SECONDS = 0.02
FLOOR_SECONDS = 5.0
"""How long the quietest moments are looked for."""
FLOOR_QUANTILE = 0.1
LEAST_DB = -50.0
"""Of full scale: speech into a microphone is louder."""
ECHO_DB = -14.0
"""What is heard of a reply itself stays below its own level by this much; with echo cancellation, far below."""
NEEDED, WINDOW = 3, 5
"""Loud frames among the last ones that make speech."""


HYSTERESIS = 0.15
"""How much less probable speech may be to go on than to begin."""


class SpeechDetector(Protocol):
    """What tells speech from other sounds."""

    def probability(self, samples: Samples) -> float:
        """That somebody speaks, after `(n,)` more samples."""
        ...


class VoiceEvent(Enum):
    """A change."""

    STARTED = auto()
    STOPPED = auto()


def level_db(samples: Samples) -> float:
    """Root mean square of some samples in dB of full scale."""
    return 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12)) if len(samples) else -120.0


class VoiceActivity:
    """Listens.

    Args:
        rate: samples a second.
        margin_db: by how much speech stands out.
        silence_seconds: how long it must be quiet until speech has ended.
        detector: judges instead of the margin, with `threshold` as what is probable enough.
    """

    def __init__(
        self, rate: int, *, margin_db: float = 12.0, silence_seconds: float = 0.5, detector: SpeechDetector | None = None
    ) -> None:
        self.margin_db, self.silence_seconds, self.threshold = margin_db, silence_seconds, 0.5
        self._detector = detector
        self.speaking = False
        self.reply_db: float | None = None
        """Level of the reply that is being played, if one is."""
        self._size = round(FRAME_SECONDS * rate)
        self._held = np.zeros(0, np.float32)
        self._levels: deque[float] = deque(maxlen=round(FLOOR_SECONDS / FRAME_SECONDS))
        self._loud: deque[bool] = deque(maxlen=WINDOW)
        self._quiet_frames = 0

    def push(self, samples: Samples) -> list[VoiceEvent]:
        """Take `(n,)` more samples; what has changed with them, in order."""
        held = np.concatenate([self._held, samples])
        whole = len(held) // self._size * self._size
        self._held = held[whole:]
        events = (self._frame(frame) for frame in held[:whole].reshape(-1, self._size))
        return [event for event in events if event is not None]

    def reset(self) -> None:
        """Nobody speaks now; what is known of the room stays."""
        self.speaking, self._quiet_frames = False, 0
        self._loud.clear()

    def _frame(self, frame: Samples) -> VoiceEvent | None:
        begins, goes_on = self._by_level(frame) if self._detector is None else self._by_detector(frame, self._detector)
        self._loud.append(begins)
        if not self.speaking:
            if sum(self._loud) < NEEDED:
                return None
            self.speaking, self._quiet_frames = True, 0
            return VoiceEvent.STARTED
        self._quiet_frames = 0 if goes_on else self._quiet_frames + 1
        if self._quiet_frames * FRAME_SECONDS < self.silence_seconds:
            return None
        self.reset()
        return VoiceEvent.STOPPED

    def _by_level(self, frame: Samples) -> tuple[bool, bool]:
        """Whether speech may begin with a frame, and whether it may go on."""
        level = level_db(frame)
        floor = float(np.quantile(self._levels, FLOOR_QUANTILE)) if self._levels else LEAST_DB - self.margin_db
        self._levels.append(max(level, -90.0))
        wanted = max(LEAST_DB, floor + self.margin_db, self._echo_db)
        # Speech that goes on raises the floor; it has ended only well below what it takes to begin.
        return level > wanted, level > wanted - self.margin_db / 2

    def _by_detector(self, frame: Samples, detector: SpeechDetector) -> tuple[bool, bool]:
        probability, above_echo = detector.probability(frame), level_db(frame) > self._echo_db
        return above_echo and probability >= self.threshold, probability >= self.threshold - HYSTERESIS

    @property
    def _echo_db(self) -> float:
        return -120.0 if self.reply_db is None else self.reply_db + ECHO_DB
