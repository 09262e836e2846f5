"""Rates of answers, and what they are compared with."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from omnictl.data.dialogues.chat_template import Dialogue, Media, Message
from omnictl.evaluation.sft import (
    DialogueResult,
    JudgedAnswers,
    MediaRates,
    find_commonest,
    judge_with_controls,
    mean_accuracy,
    rates,
    validation_metrics,
    with_controls,
)
from omnictl.metrics.intervals import rate_of
from omnictl.metrics.verdict import judge_answers
from omnictl.tinyworld.dialogues import TASKS


def dialogue(task: str, reference: str, *media: Media) -> Dialogue:
    return Dialogue("1", task, (Message("user", (*media, "?")), Message("assistant", (reference,))), "here")


def one(task: str, reference: str, answer: str) -> DialogueResult:
    return DialogueResult(dialogue(task, reference), answer)


def test_rates_by_task() -> None:
    found = rates(
        [
            one("text", "The star.", "the star"),
            one("text", "Red.", "Blue."),
            one("caption", "A red ring and a blue star.", "A blue star."),
            one("transcribe", "There are two cats.", "there are two dogs"),
        ]
    )
    assert {name: one.value for name, one in found.items()} == {
        "accuracy_text": 0.5,
        "accuracy_caption": 1.0,
        "wer_transcribe": 0.25,
    }
    assert mean_accuracy(found).value == 0.75


@pytest.mark.parametrize(
    ("reference", "answer", "wer"),
    [("Два кота спят", "два кота едят", 1 / 3), ("두 고양이가 잔다", "", 1.0), ("Twenty two cats.", "22 cats", 0.0)],
)
def test_transcripts_are_compared_in_their_script(reference: str, answer: str, wer: float) -> None:
    assert rates([one("transcribe", reference, answer)])["wer_transcribe"].value == pytest.approx(wer)


def test_validation_and_test_mean_the_same_tasks() -> None:
    for task in TASKS:
        validated = validation_metrics({each: [each == task] for each in TASKS}, 1.0)
        tested = rates([one(each, "A cat.", "A cat." if each == task else "") for each in TASKS])
        assert validated["accuracy"] == pytest.approx(mean_accuracy(tested).value) == (0 if task == "transcribe" else 1 / 12)
        assert validated[f"accuracy_{task}"] == 1
    assert list(validated)[:2] == ["accuracy", "loss"]


def test_where_there_are_only_transcripts_they_are_what_is_validated() -> None:
    assert validation_metrics({"transcribe": [True, False]}, 1.0)["accuracy"] == 0.5


def test_the_commonest_answer_is_that_of_the_others() -> None:
    def share(*references: str) -> float:
        answered = [one("text", reference, "") for reference in references]
        return find_commonest(answered)["accuracy_text"].value

    assert share("Red.") == 0
    assert share("Red.", "Blue.") == 0
    assert share("Red.", "Red.", "Blue.") == 2 / 3
    assert share("Red.", "Red.", "Blue.", "Blue.") == 0  # without its own, the other one is commoner
    assert share("Yes.", "Yes.", "Yes.", "No.") == 0.75


def test_what_every_rate_is_compared_with() -> None:
    found = {"accuracy_text": rate_of(9, 10), "accuracy_image": rate_of(5, 10), "wer_transcribe": rate_of(1, 10)}
    own = {name: found[name] for name in ("accuracy_image", "wer_transcribe")}
    exchanged = {"accuracy_image": rate_of(1, 10), "wer_transcribe": rate_of(9, 10)}
    bare = {"accuracy_image": rate_of(3, 10), "wer_transcribe": rate_of(10, 10)}
    commonest = {"accuracy_text": rate_of(1, 10), "accuracy_image": rate_of(2, 10), "wer_transcribe": rate_of(10, 10)}
    estimates = with_controls(found, MediaRates(own, exchanged, bare), commonest)
    assert [(name, one.value, one.control and one.control[:2]) for name, one in estimates.items()] == [
        ("accuracy", 0.7, ("accuracy_commonest", pytest.approx(0.15))),
        ("accuracy_media", 0.5, ("accuracy_text_only", 0.3)),
        ("accuracy_text", 0.9, ("accuracy_text_commonest", 0.1)),
        ("accuracy_image", 0.5, ("accuracy_image_text_only", 0.3)),
        ("wer_transcribe", 0.1, ("wer_transcribe_shuffled", 0.9)),
    ]
    assert estimates["wer_transcribe"].beats


class Respondent:
    """Answers as a function says."""

    def __init__(self, answer: Callable[[Dialogue], str]) -> None:
        self.answer = answer

    def answer_all(self, dialogues: Sequence[Dialogue], _features: object, *, max_reply: int) -> list[DialogueResult]:
        assert max_reply == 8
        return [DialogueResult(each, self.answer(each)) for each in dialogues]


def judge(answer: Callable[[Dialogue], str], dialogues: Sequence[Dialogue]) -> JudgedAnswers:
    respondent: Any = Respondent(answer)
    return judge_with_controls(respondent, dialogues, None, max_reply=8)  # type: ignore[arg-type]


COLOURS = ("Red.", "Blue.")

MIXED = [
    *(dialogue("dialogue", COLOURS[number % 2], Media("image", number)) for number in range(200)),
    *(dialogue("dialogue", f"Answer {number}.") for number in range(200)),
]
"""Half of them about images, of one colour or the other; the answers to the others are known by heart."""


def by_heart(asked: Dialogue) -> str:
    return "Red." if asked.answer in COLOURS else asked.answer


def test_who_ignores_images_does_not_beat_a_control_of_other_dialogues() -> None:
    judged = judge(by_heart, MIXED)
    media = judged.estimates["accuracy_media"]
    assert (media.value, media.count, media.beats) == (0.5, 200, False)
    assert judged.estimates["accuracy_dialogue"].value == 0.75
    control = judged.estimates["accuracy_dialogue"].control
    assert control is not None
    assert control.name == "accuracy_dialogue_commonest"
    assert judged.controls["accuracy_dialogue_shuffled"] == judged.controls["accuracy_dialogue_text_only"] == 0.5
    assert judged.controls["accuracy_shuffled"] == judged.controls["accuracy_text_only"] == 0.5
    assert judge_answers(judged.estimates, generated=False).word == "not learned"


def test_who_looks_beats_it() -> None:
    def look(asked: Dialogue) -> str:
        return COLOURS[asked.media[0].number % 2] if asked.media else by_heart(asked)

    judged = judge(look, MIXED)
    assert judged.estimates["accuracy_media"].beats
    assert judge_answers(judged.estimates, generated=False).word == "learned"


def test_who_copies_from_the_dialogue_is_no_better_than_without_media() -> None:
    """Exchanged images mislead it, without any it answers from the text."""

    def copy(asked: Dialogue) -> str:
        is_misled = asked.media and COLOURS[asked.media[0].number % 2] != asked.answer
        return "Green." if is_misled else asked.answer

    judged = judge(copy, MIXED[:200])
    assert judged.controls["accuracy_dialogue_shuffled"] < judged.controls["accuracy_dialogue_text_only"] == 1
    verdict = judge_answers(judged.estimates, generated=False)
    assert verdict.word == "not learned"
    assert "does not beat accuracy_text_only 1.000" in verdict.reason


def test_transcripts_alone_are_headed_by_their_error_rate() -> None:
    spoken = [dialogue("transcribe", f"Number {number}", Media("audio", number)) for number in range(10, 40)]
    judged = judge(lambda asked: f"number {asked.media[0].number}" if asked.media else "", spoken)
    assert list(judged.estimates) == ["wer_transcribe"]
    assert set(judged.controls) == {"wer_transcribe_shuffled", "wer_transcribe_text_only"}
    assert judge_answers(judged.estimates, generated=False).word == "learned"
    written = judge(lambda asked: "", [dialogue("transcribe", "Some words")])
    assert list(written.controls) == ["wer_transcribe_commonest"]
