"""A voice chosen by name, its speed and its pitch, for `say` and for `chat`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from stage_factory import finished_run

Command = Callable[..., Any]


def test_a_text_is_said_in_a_chosen_voice(omnictl: Command, runs: Path) -> None:
    finished_run(runs, "talker")
    said = []
    for options in ((), ("--speed", 2, "--speaker", "en-us"), ("--speed", 2, "--pitch", 3)):
        assert omnictl("say", "There are two cats.", "--out", "a.wav", *options).code == 0
        said.append(soundfile.read("a.wav")[0])
    usual, faster, higher = said
    assert len(faster) < 0.8 * len(usual)
    assert len(higher) < 0.8 * len(usual)
    assert not np.array_equal(higher, faster)


def test_an_answer_is_said_in_a_chosen_voice(omnictl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnictl.use import say

    settings = []
    stream = say.stream
    monkeypatch.setattr(say, "stream", lambda pieces, voice, chosen: settings.append(chosen) or stream(pieces, voice, chosen))
    finished_run(runs, "sft")
    options = "--speaker", "en-us", "--speed", 1.5, "--pitch", -2
    assert omnictl("chat", "--text", "hi", "--max-tokens", 3, "--speak", "a.wav", *options).code == 0
    assert settings == [say.SpeechSettings(speaker="en-us", speed=1.5, pitch=-2.0)]


@pytest.mark.parametrize(
    ("options", "message", "fix"),
    [
        ("--speak a.wav --speaker eve", "this Talker has no speaker 'eve', it knows: en-us", "name one of these"),
        ("--speaker en-us", "a voice is chosen for an answer that is not said", "add --speak reply.wav"),
        ("--pitch 3", "a voice is chosen for an answer that is not said", "or leave --speaker, --speed and --pitch out"),
        ("--speak a.wav --speed nan", "should be less than or equal to 4", "--speed"),
        ("--speak a.wav --pitch 13", "should be less than or equal to 12", "--pitch"),
    ],
)
def test_voices_that_are_refused(omnictl: Command, runs: Path, options: str, message: str, fix: str) -> None:
    finished_run(runs, "sft")
    ended = omnictl("chat", "--text", "hi", "--max-tokens", 3, *options.split())
    assert ended.code == 2
    for part in (message, fix):
        assert part in " ".join(ended.err.split())
    assert not Path("a.wav").exists()
