"""Silero VAD, a small network that tells speech from other sounds, where level alone would not (extra `omnictl[vad]`).

Source: Silero Team 2021, https://github.com/snakers4/silero-vad; its weights come with the package, for 16 kHz.
"""

import numpy as np
import torch

from omnictl.data.audio.resample import ResampleStream
from omnictl.data.speech.corpus import Samples

RATE = 16_000
WINDOW = 512
"""Samples that it judges at a time: 32 ms."""


class SileroVad:
    """One stream's; a `SpeechDetector`.

    Args:
        rate: of its samples, in Hz.
    """

    def __init__(self, rate: int) -> None:
        from silero_vad import load_silero_vad  # noqa: PLC0415  an extra of its own

        self._model = load_silero_vad(onnx=True)
        self._resample = ResampleStream(rate, RATE)
        self._held = np.zeros(0, np.float32)
        self._newest = 0.0

    def probability(self, samples: Samples) -> float:
        """That somebody speaks, after `(n,)` more samples."""
        self._held = np.concatenate([self._held, self._resample.push(samples)])
        while len(self._held) >= WINDOW:
            window, self._held = self._held[:WINDOW], self._held[WINDOW:]
            with torch.inference_mode():
                self._newest = float(self._model(torch.from_numpy(window), RATE))
        return self._newest
