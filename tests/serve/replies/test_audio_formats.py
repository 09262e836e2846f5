"""Speech in the rates that a format knows."""

import io

import numpy as np
import pytest
import soundfile

from omnictl.serve.replies.audio_formats import AudioFormat, SpeechEncoder


@pytest.mark.parametrize(
    ("kind", "rate", "expected"),
    [
        ("opus", 22_050, 24_000),
        ("opus", 24_000, 24_000),
        ("opus", 96_000, 48_000),
        ("mp3", 20_000, 22_050),
        ("flac", 20_000, 20_000),
    ],
)
def test_a_rate_that_a_format_does_not_know_becomes_the_next(kind: AudioFormat, rate: int, expected: int) -> None:
    tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate).astype(np.float32) / 2
    encoder = SpeechEncoder(kind, rate)
    data = b"".join([encoder.push(tone[: rate // 3]), encoder.push(tone[rate // 3 :]), encoder.finish()])
    samples, found = soundfile.read(io.BytesIO(data))
    assert found == expected
    assert len(samples) / found == pytest.approx(1, abs=0.12)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * found / len(samples) == pytest.approx(440, abs=2)
