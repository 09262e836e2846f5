"""A loudspeaker over a stand-in for `sounddevice`, which may not be installed."""

import sys
from threading import Event
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from omnictl.cli.use.playback import open_loudspeaker


class Stream:
    """Notes what is done to it; a write waits until it may go on."""

    def __init__(self, **_: object) -> None:
        self.done: list[str] = []
        self.may_play, self.playing = Event(), Event()

    def write(self, samples: Any) -> None:
        assert samples.shape[1] == 1
        self.playing.set()
        assert self.may_play.wait(10)
        self.done.append(f"{samples[0, 0]:.0f}")

    def __getattr__(self, name: str) -> Any:
        return lambda: self.done.append(name)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    made = Stream()
    module = ModuleType("sounddevice")
    module.OutputStream = lambda **_: made  # type: ignore[attr-defined]
    module.PortAudioError = OSError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return made


def audio(value: float) -> Any:
    return np.full(8, value, np.float32)


def test_everything_is_heard_in_order_and_nobody_waits_for_it(stream: Stream) -> None:
    loudspeaker = open_loudspeaker(16_000)
    assert loudspeaker is not None
    for value in (1, 2, 3):
        loudspeaker.play(audio(value))
    assert stream.done == ["start"]
    stream.may_play.set()
    loudspeaker.close()
    assert stream.done == ["start", "1", "2", "3", "stop", "close"]


def test_what_was_not_heard_yet_is_dropped_when_it_is_stopped(stream: Stream) -> None:
    loudspeaker = open_loudspeaker(16_000)
    assert loudspeaker is not None
    for value in (1, 2, 3):
        loudspeaker.play(audio(value))
    assert stream.playing.wait(10)
    silent = loudspeaker._silent  # type: ignore[attr-defined]
    silent.set()  # as `stop` does first; here before the one that is under way may end
    stream.may_play.set()
    loudspeaker.stop()
    assert stream.done == ["start", "1", "abort", "close"]


def test_without_a_device_there_is_none(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> Any:
        raise OSError("no device")

    monkeypatch.setattr(sys.modules["sounddevice"], "OutputStream", refuse)
    assert open_loudspeaker(16_000) is None
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert open_loudspeaker(16_000) is None
