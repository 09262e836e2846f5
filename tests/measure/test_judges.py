"""Recognisers that listen to a Talker: one from outside, given what it expects."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from omnictl.data.audio.resample import resample
from omnictl.errors import UsageError
from omnictl.measure import judges
from omnictl.measure.judges import Pocketsphinx
from omnictl.tinyworld.speech.espeak import Request, speak


class Decoder:
    """Stands in for pocketsphinx's; it notes what it is asked."""

    def __init__(self, **options: Any) -> None:
        self.options, self.calls = options, list[Any]()
        self.heard: str | None = "hello there"

    def start_utt(self) -> None:
        self.calls.append("start")

    def process_raw(self, content: bytes, *, full_utt: bool) -> None:
        self.calls.append((np.frombuffer(content, np.int16).tolist(), full_utt))

    def end_utt(self) -> None:
        self.calls.append("end")

    def hyp(self) -> Any:
        return None if self.heard is None else SimpleNamespace(hypstr=self.heard)


def test_an_outsider_hears_16_bits_of_whole_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "find_spec", lambda name: object())
    monkeypatch.setattr(judges, "import_module", lambda name: SimpleNamespace(Decoder=Decoder))
    judge = Pocketsphinx()
    decoder = judge._decoder
    assert decoder.options["samprate"] == judge.rate == 16_000
    assert judge.read(np.array([0.0, 0.5, -2.0, 1.0], np.float32)) == "hello there"
    assert decoder.calls == ["start", ([0, 16383, -32767, 32767], True), "end"]
    decoder.heard = None
    assert judge.read(np.zeros(1, np.float32)) == ""


def test_an_outsider_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pocketsphinx is not installed") as caught:
        Pocketsphinx()
    assert caught.value.fix is not None
    assert "omnictl[judges]" in caught.value.fix


def test_the_real_outsider_understands_some_of_a_synthetic_voice() -> None:
    pytest.importorskip("pocketsphinx")
    spoken = speak([Request("one two three four five", "en-us", 140, 50)])
    audio = resample(spoken.samples[0].astype(np.float32) / np.float32(2**15), spoken.rate, Pocketsphinx.rate)
    assert len({"two", "three", "four", "five"} & set(Pocketsphinx().read(audio).split())) >= 3
