"""What a conversation remembers."""

import pytest

from omnictl.serve.endpoints.chat_schema import TextPart
from omnictl.serve.realtime.dialogue import Dialogue, Item, item_of
from omnictl.serve.realtime.session_schema import ItemPart, NewItem
from omnictl.serve.traffic.errors import RequestError

TEXT = "It is red. The circle is blue."


def spoken() -> Item:
    sentences = [("It is red.", 0.0), (" The circle is blue.", 1.0)]
    parts = [TextPart(type="text", text=TEXT)]
    return Item("a", "assistant", parts, sentences=sentences, spoken=True, seconds=3.0, said_whole=True)


@pytest.mark.parametrize(
    ("seconds", "remembered"),
    [(0, ""), (0.75, "It is"), (1, "It is red."), (2.2, "It is red. The circle"), (3, TEXT), (9, TEXT)],
)
def test_only_what_was_heard_is_remembered(seconds: float, remembered: str) -> None:
    item = spoken()
    item.truncate(seconds)
    assert item.text == remembered
    assert item.as_json()["status"] == "incomplete"


@pytest.mark.parametrize(
    ("sentences", "made", "remembered"),
    [
        ([("one two three four five six seven eight nine ten", 0.0)], 1.0, "one two three"),  # 15 characters a second
        ([("It is red.", 0.0), (" one two three four", 1.0)], 2.0, "It is red. one two"),  # 10 a second
        ([("It is red.", 0.0), (" Yes.", 1.0)], 3.0, "It is red. Yes."),
    ],
)
def test_of_a_sentence_that_is_still_being_said_only_its_beginning_was_heard(
    sentences: list[tuple[str, float]], made: float, remembered: str
) -> None:
    text = "".join(sentence for sentence, _ in sentences)
    item = Item("a", "assistant", [TextPart(type="text", text=text)], sentences=sentences, seconds=made)
    item.truncate(made)
    assert item.text == remembered


def test_words_that_were_not_heard_do_not_come_back() -> None:
    item = spoken()
    for seconds, remembered in ((2.2, "It is red. The circle"), (3.0, "It is red. The circle"), (0.75, "It is")):
        item.truncate(seconds)
        assert item.text == remembered


def test_items_are_put_behind_others() -> None:
    dialogue = Dialogue()
    places = [("a", None), ("b", None), ("c", "a"), ("d", "root"), ("e", None)]
    assert [dialogue.add(Item(name, "user", []), after) for name, after in places] == [None, "a", "a", None, "b"]
    assert list(dialogue._items) == ["d", "a", "c", "b", "e"]
    with pytest.raises(RequestError, match="no item 'x'") as found:
        dialogue.add(Item("f", "user", []), "x")
    assert found.value.where == "previous_item_id"


def test_a_reply_that_was_not_heard_is_not_part_of_the_conversation() -> None:
    dialogue = Dialogue()
    question = NewItem(type="message", role="user", content=[ItemPart(type="input_text", text="hi")])
    dialogue.add(item_of(question))
    dialogue.add(spoken())
    dialogue.find("a").truncate(0)
    dialogue.add(item_of(question))
    assert [message.role for message in dialogue.messages("Be brief.")] == ["system", "user", "user"]


def test_the_oldest_item_is_no_instruction() -> None:
    dialogue = Dialogue()
    for role in ("system", "user", "assistant"):
        dialogue.add(Item(role, role, []))  # type: ignore[arg-type]
    assert dialogue.oldest_id == "user"


def test_items_are_found_and_deleted_by_id() -> None:
    dialogue = Dialogue()
    dialogue.add(spoken())
    with pytest.raises(RequestError, match="already"):
        dialogue.add(spoken())
    dialogue.delete("a")
    with pytest.raises(RequestError, match="no item 'a'"):
        dialogue.find("a")


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("assistant", ItemPart(type="input_audio", audio="AAAA")),
        ("user", ItemPart(type="output_text", text="x")),
        ("user", ItemPart(type="input_text")),
        ("user", ItemPart(type="input_audio", audio="AAAA")),
    ],
    ids=["audio of the assistant", "output of the user", "no text", "half a sample"],
)
def test_what_cannot_be_said_is_named(role: str, part: ItemPart) -> None:
    with pytest.raises(RequestError) as found:
        item_of(NewItem(type="message", role=role, content=[part]))  # type: ignore[arg-type]
    assert (found.value.where or "").startswith("item.content.0")
