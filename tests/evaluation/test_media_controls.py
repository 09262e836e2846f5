"""Whose images and recordings a dialogue is given."""

from omnictl.data.dialogues.chat_template import Dialogue, Media, Message, Part
from omnictl.evaluation.media_controls import exchange_media, take_media_away


def asked(*parts: Part, task: str = "dialogue") -> Dialogue:
    return Dialogue("", task, (Message("user", parts), Message("assistant", ("Yes.",))), "here")


def image(number: int) -> Media:
    return Media("image", number)


def audio(number: int) -> Media:
    return Media("audio", number)


def parts(dialogues: list[Dialogue]) -> list[tuple[Part, ...]]:
    return [dialogue.messages[0].parts for dialogue in dialogues]


def test_a_question_that_is_spoken_stays() -> None:
    dialogues = [asked(image(number), audio(number)) for number in (1, 2)]
    assert parts(exchange_media(dialogues)) == [(image(2), audio(1)), (image(1), audio(2))]
    assert parts(take_media_away(dialogues)) == [(audio(1),), (audio(2),)]


def test_what_is_all_there_is_goes() -> None:
    dialogues = [asked(audio(number), "What is it?") for number in (1, 2)]
    assert parts(exchange_media(dialogues)) == [(audio(2), "What is it?"), (audio(1), "What is it?")]
    assert parts(take_media_away(dialogues)) == [("What is it?",)] * 2


def test_images_are_exchanged_for_images_and_recordings_for_recordings_within_a_task() -> None:
    dialogues = [
        *(asked(one) for one in (image(1), audio(2), image(3), audio(4))),
        *(asked(image(number), task="other") for number in (5, 6)),
        asked("Without any."),
    ]
    assert parts(exchange_media(dialogues)) == [(one,) for one in (image(3), audio(4), image(1), audio(2), image(6), image(5))]


def test_dialogues_about_the_same_image_do_not_exchange_it_with_each_other() -> None:
    """Two questions about each image."""
    dialogues = [asked(image(number // 2), str(number)) for number in range(20)]
    for before, after in zip(dialogues, exchange_media(dialogues), strict=True):
        assert before.media != after.media
        assert before.messages[0].text == after.messages[0].text


def test_an_image_that_most_are_about_is_taken_away_from_those_that_find_no_other() -> None:
    dialogues = [*(asked(image(1)) for _ in range(5)), asked(image(2)), asked(image(3))]
    changed = exchange_media(dialogues)
    assert [len(dialogue.media) for dialogue in changed[5:]] == [1, 1]
    assert sorted(dialogue.media for dialogue in changed[:5]) == [(), (), (), (image(2),), (image(3),)]
    assert parts(exchange_media([asked(image(1), "Alone?")])) == [("Alone?",)]


def test_as_many_images_as_there_were() -> None:
    dialogues = [asked(image(1), "or", image(2), task="t"), asked(image(3), task="t")]
    assert parts(exchange_media(dialogues)) == [(image(3), "or", image(3)), (image(1),)]
