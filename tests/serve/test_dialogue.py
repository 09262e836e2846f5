"""What a conversation remembers."""

import pytest

from omnictl.serve.endpoints.chat_schema import TextPart
from omnictl.serve.realtime.dialogue import Dialogue, Item, item_of
from omnictl.serve.realtime.session_schema import ItemPart, NewItem
from omnictl.serve.traffic.errors import RequestError

TEXT = "It is red. The circle is blue."


def spoken() -> Item:
    sentences = [("It is red.", 0.0), (" The circle is blue.", 1.0)]
    return Item("a", "assistant", [TextPart(type="text", text=TEXT)], sentences=sentences, seconds=3.0)


@pytest.mark.parametrize(
    ("seconds", "remembered"),
    [(0, ""), (0.75, "It is"), (1, "It is red."), (2.2, "It is red. The circle"), (3, TEXT), (9, TEXT)],
)
def test_only_what_was_heard_is_remembered(seconds: float, remembered: str) -> None:
    item = spoken()
    item.truncate(seconds)
    assert item.text == remembered
    assert item.as_json()["status"] == "incomplete"


def test_a_reply_that_was_not_heard_is_not_part_of_the_conversation() -> None:
    dialogue = Dialogue()
    question = NewItem(type="message", role="user", content=[ItemPart(type="input_text", text="hi")])
    dialogue.add(item_of(question))
    dialogue.add(spoken())
    dialogue.find("a").truncate(0)
    dialogue.add(item_of(question))
    assert [message.role for message in dialogue.messages("Be brief.")] == ["system", "user", "user"]


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
