"""When somebody begins and ends to speak, from the level of what a microphone hears.

Speech is what stands out of the quietest moments of the last seconds. While a reply is being played, it must also be louder than
the reply's echo in the microphone may be. Left out on purpose: telling speech from other sudden sounds; what turns out to be steady
noise when it has ended (`use.transcribe.is_silent`) is not answered.
"""

from collections import deque
from enum import Enum, auto

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
    """

    def __init__(self, rate: int, *, margin_db: float = 12.0, silence_seconds: float = 0.5) -> None:
        self.margin_db, self.silence_seconds = margin_db, silence_seconds
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
        level = level_db(frame)
        floor = float(np.quantile(self._levels, FLOOR_QUANTILE)) if self._levels else LEAST_DB - self.margin_db
        self._levels.append(max(level, -90.0))
        wanted = max(LEAST_DB, floor + self.margin_db)
        if self.reply_db is not None:
            wanted = max(wanted, self.reply_db + ECHO_DB)
        self._loud.append(level > wanted)
        if not self.speaking:
            if sum(self._loud) < NEEDED:
                return None
            self.speaking, self._quiet_frames = True, 0
            return VoiceEvent.STARTED
        # Speech that goes on raises the floor; it has ended only well below what it takes to begin.
        self._quiet_frames = 0 if level > wanted - self.margin_db / 2 else self._quiet_frames + 1
        if self._quiet_frames * FRAME_SECONDS < self.silence_seconds:
            return None
        self.reset()
        return VoiceEvent.STOPPED
