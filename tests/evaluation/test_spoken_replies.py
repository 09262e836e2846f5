from types import SimpleNamespace
from typing import Any

import numpy as np

from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.evaluation.spoken_replies import SAID, say_replies

TASKS = ("one", "two", "three", "four", "five")


class Attentive:
    """Says nothing and hears everything right, but for what it is told to mishear."""

    def __init__(self, misheard: str = "") -> None:
        self.voice = SimpleNamespace(vocoder=SimpleNamespace(sample_rate=16_000), pronunciation=ReadAloud())
        self.misheard = misheard
        self.said: list[str] = []

    def synthesise(self, text: str, speaker: int) -> Any:
        self.said.append(text)
        return np.zeros(160, np.float32)

    def read(self, audio: Any) -> str:
        """What was said just now."""
        return "" if self.said[-1] == self.misheard else self.said[-1]


def test_of_tasks_that_take_turns_all_are_heard() -> None:
    evaluator: Any = Attentive()
    report = say_replies([task for _ in range(400) for task in TASKS], evaluator)
    assert len(evaluator.said) == SAID
    assert all(10 <= evaluator.said.count(task) <= 30 for task in TASKS)
    assert report.metrics == {"speech_reply_cer": 0.0}
    assert report.controls["speech_reply_cer_shuffled"] > 0.5


def test_few_answers_are_all_said_and_what_is_not_heard_counts() -> None:
    evaluator: Any = Attentive(misheard="two")
    report = say_replies(["one", "two", "четыре"], evaluator)
    assert evaluator.said == ["one", "two"]  # the last one has no audio, and is as good as not heard
    assert report.metrics["speech_reply_cer"] == 9 / 12
    assert len(report.audio) == 2
