from pathlib import Path

import pytest
from spoken_rows import assistant, user, write_rows

from omnictl.data.dialogues.manifest import DialogueRow, read_dialogues
from omnictl.data.dialogues.speak.questions import Cast, LeftWritten, Question, Sentence, plan_questions, plan_replies, plan_speech
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, UNSEEN_VOICES


def rows_of(folder: Path, *rows: dict[str, object]) -> tuple[DialogueRow, ...]:
    return read_dialogues(write_rows(folder, *rows)).rows


def questions(count: int) -> list[dict[str, object]]:
    return [{"messages": [user(f"What is {chr(97 + n % 26)}?"), assistant("It.")], "id": f"d{n}"} for n in range(count)]


def test_texts_are_said_and_what_cannot_be_said_is_named(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "in",
        {
            "messages": [
                user("Hello, Dr. Who?"),
                assistant("Hi."),
                user("a.png", "What?", "b.png", "And this?"),
                assistant("A cat."),
            ]
        },
        {"messages": [user("See www.example.com"), assistant("No.")]},
        {"messages": [user("a.png", "b.png"), assistant("Nobody asked.")]},
    )
    first, second, third = plan_questions(rows, 1.0, 0)
    assert first == Question(rows[0], 0, ("Hello, Doctor Who?",))
    assert second == Question(rows[0], 2, ("What?", "And this?"))
    where = f"{tmp_path}/in/dialogues.jsonl:2"
    assert third == LeftWritten(where, "an address, which nobody reads aloud: www.", "See www.example.com")


def test_what_is_too_long_is_not_even_tried(tmp_path: Path) -> None:
    long = " ".join(["word"] * 300)
    rows = rows_of(tmp_path, {"messages": [user(long), assistant(f"{long}. Yes.")]})
    reason = "it is too long to be said in one go: 1,499 characters"
    assert list(plan_questions(rows, 1.0, 0)) == [LeftWritten(rows[0].where, reason, long)]
    left, sentence = plan_replies({"train": rows, "val": (), "test": ()})
    assert left == LeftWritten(rows[0].where, reason.replace("1,499", "1,500"), f"{long}.")
    assert sentence == Sentence("Yes.", "train", rows[0].where)


def test_a_larger_share_holds_the_questions_of_a_smaller_one(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, *questions(120))
    drawn = {share: {plan.row.id for plan in plan_questions(rows, share, 3)} for share in (0.0, 0.25, 0.5, 1.0)}
    assert [len(drawn[share]) for share in (0.0, 1.0)] == [0, 120]
    assert drawn[0.25] < drawn[0.5]
    assert len(drawn[0.25]) == pytest.approx(30, abs=4 * (120 * 0.25 * 0.75) ** 0.5)  # four standard deviations
    assert {plan.row.id for plan in plan_questions(rows, 0.25, 4)} != drawn[0.25]
    assert {plan.row.id for plan in plan_questions(rows[:60], 0.5, 3)} == drawn[0.5] & {row.id for row in rows[:60]}


def test_a_dialogue_has_one_voice_in_one_room_and_others_have_others(tmp_path: Path) -> None:
    two = {"messages": [user("One?"), assistant("A."), user("Two?"), assistant("B.")], "id": "two"}
    first, second, *others = plan_questions(rows_of(tmp_path, two, *questions(60)), 1.0, 0)
    (one,), (again,) = plan_speech(first, "train", Cast(), 0), plan_speech(second, "train", Cast(), 0)
    assert (one.text, again.text) == ("One?", "Two?")
    assert one.seed != again.seed  # the noise goes on
    for name in ("voice", "rate", "pitch", "reverb", "snr_db", "gain_db"):
        assert getattr(one, name) == getattr(again, name)
    assert len({plan_speech(other, "train", Cast(), 0)[0].voice for other in others}) > 20
    assert plan_speech(first, "train", Cast(), 0) == [one]
    assert len({plan_speech(first, "train", Cast(), seed)[0].voice for seed in range(20)}) > 5


def test_the_test_split_has_voices_of_its_own(tmp_path: Path) -> None:
    plans = list(plan_questions(rows_of(tmp_path, *questions(200)), 1.0, 0))
    voices = {split: [plan_speech(plan, split, Cast(), 0)[0].voice for plan in plans] for split in ("train", "val", "test")}
    assert voices["train"] == voices["val"]
    assert set(voices["train"]) <= set(KNOWN_VOICES)
    unseen = [voice for voice in voices["test"] if voice in UNSEEN_VOICES]
    assert set(unseen) == set(UNSEEN_VOICES)
    assert len(unseen) == pytest.approx(100, abs=28)
    named = {plan_speech(plan, "test", Cast(("ada", "ben"), ()), 0)[0].voice for plan in plans}
    assert named == {"ada", "ben"}


def test_sentences_of_replies_are_said_once_and_belong_to_training_first(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        {"messages": [user("A?"), assistant("Yes. It is red!")]},
        {"messages": [user("B?"), assistant("yes."), user("C?"), assistant("See `x`.")]},
        {"messages": [user("D?"), assistant("It is blue. Yes.")]},
    )
    planned = list(plan_replies({"train": rows[1:2], "val": rows[:1], "test": rows[2:]}))
    where = [row.where for row in rows]
    assert planned == [
        Sentence("yes.", "train", where[1]),
        LeftWritten(where[1], "signs that have no reading: `", "See `x`."),
        Sentence("It is red!", "val", where[0]),
        Sentence("It is blue.", "test", where[2]),
    ]
