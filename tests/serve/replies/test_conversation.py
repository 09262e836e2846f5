"""What a Thinker reads of the messages of a request."""

import base64
from collections.abc import Callable

import pytest
import torch
from loopback import SCENE

from omnictl.generate.token_decoder import Prompt
from omnictl.serve.endpoints.chat_schema import ChatMessage, ContentPart, ImagePart, ImageUrl, TextPart
from omnictl.serve.model import ServedModel
from omnictl.serve.replies.conversation import ReadConversation, read_conversation, read_latest_turns
from omnictl.serve.replies.reply_audio import SpokenReplies
from omnictl.serve.traffic.limits import ServeLimits

URL = "data:image/png;base64," + base64.b64encode(SCENE.read_bytes()).decode()
IMAGE = ImagePart(type="image_url", image_url=ImageUrl(url=URL))


def text(words: str) -> TextPart:
    return TextPart(type="text", text=words)


@pytest.mark.parametrize("read", [read_conversation, read_latest_turns])
def test_what_the_user_says_in_several_messages_is_read_as_one(served: ServedModel, read: Callable[..., ReadConversation]) -> None:
    def prompt(*contents: list[ContentPart]) -> Prompt:
        messages = [ChatMessage(role="user", content=content) for content in contents]
        return read(messages, served.new_session(0), ServeLimits(), SpokenReplies()).prompt

    together = prompt([IMAGE, text("What is this?")])
    assert torch.equal(prompt([IMAGE], [text("What is this?")]).embeddings, together.embeddings)
    assert torch.equal(prompt([IMAGE], [text("What")], [text("is this?")]).embeddings, together.embeddings)
