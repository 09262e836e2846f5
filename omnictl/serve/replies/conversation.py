"""From the messages of a request to what a Thinker reads."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from omnictl.data.dialogues.chat_template import Media, Message, Part, Role
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.errors import OmniError
from omnictl.generate.token_decoder import Prompt
from omnictl.serve.endpoints.chat_schema import AudioPart, ChatMessage, ContentPart, ImagePart, TextPart
from omnictl.serve.replies.media import bytes_of_base64, bytes_of_data_url, write_media
from omnictl.serve.replies.reply_audio import SpokenReplies
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.limits import ServeLimits
from omnictl.use.chat_session import Attachment, Session


class ReadConversation(NamedTuple):
    """A conversation that the model has before it."""

    prompt: Prompt
    text_tokens: int
    media_tokens: dict[MediaKind, int]

    @property
    def total_tokens(self) -> int:
        """Positions of all kinds."""
        return self.text_tokens + sum(self.media_tokens.values())


def read_conversation(
    messages: Sequence[ChatMessage], session: Session, limits: ServeLimits, spoken: SpokenReplies
) -> ReadConversation:
    """Take in what was said and shown; it may fill the model's context but for one position, which is the reply's.

    Raises:
        RequestError: it is longer, has something that the model cannot read, or does not end with a question.
        DataError: an image or a recording that cannot be read.
    """
    if messages[-1].role == "assistant":
        fix = "end with what the user says"
        raise RequestError("the last message is the assistant's", fix=fix, where=f"messages.{len(messages) - 1}.role")
    if session.mode == "text" and len(messages) > 1:
        fix = "send the text to go on with as one message, or serve a model that was trained on dialogues (`omnictl sft`)"
        raise RequestError(f"this model continues a text, {len(messages)} messages were sent", fix=fix, where="messages")
    with tempfile.TemporaryDirectory(prefix="omnictl-serve-") as folder:
        reader = _MessageReader(session, limits, spoken, Path(folder))
        turns = [reader.read(message, f"messages.{number}") for number, message in enumerate(messages)]
    return _read_turns(_join_questions(turns), session)


def read_latest_turns(
    messages: Sequence[ChatMessage], session: Session, limits: ServeLimits, spoken: SpokenReplies
) -> ReadConversation:
    """As `read_conversation`, of as many of the latest turns as the model can read and the limits allow; instructions stay.

    Raises:
        RequestError, DataError: as there; the newest turn alone is too long.
    """
    opening, turns = [m for m in messages if m.role == "system"], [m for m in messages if m.role != "system"]
    turns = _latest_with_media(turns, limits.images - sum(map(_count_media, opening)))
    while True:
        try:
            return read_conversation([*opening, *turns], session, limits, spoken)
        except RequestError as error:
            if error.code != "context_length_exceeded" or len(turns) < 2:
                raise
        turns = turns[1:]
        session.reset()


def _latest_with_media(turns: list[ChatMessage], most: int) -> list[ChatMessage]:
    """As many of the latest turns as have at most so many images and recordings; the newest stays in any case."""
    room = most
    for number in reversed(range(len(turns))):
        room -= _count_media(turns[number])
        if room < 0:
            return turns[number + 1 :] or turns[-1:]
    return turns


def _count_media(message: ChatMessage) -> int:
    parts = message.content if isinstance(message.content, list) else []
    return sum(not isinstance(part, TextPart) for part in parts)


def _join_questions(turns: Sequence[Message]) -> list[Message]:
    """The same with what the user says and shows in messages right behind each other as one: training has no others."""
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role == "user":
            joined[-1] = Message("user", _join_parts(joined[-1].parts, turn.parts))
        else:
            joined.append(turn)
    return joined


def _join_parts(before: tuple[Part, ...], after: tuple[Part, ...]) -> tuple[Part, ...]:
    if before and after and isinstance(before[-1], str) and isinstance(after[0], str):
        return (*before[:-1], f"{before[-1]} {after[0]}", *after[1:])
    return before + after


def _read_turns(turns: Sequence[Message], session: Session) -> ReadConversation:
    context = session.respondent.model.thinker.config.context
    characters, longest = sum(len(turn.text) for turn in turns), max(map(len, session.respondent.template.tokenizer.token_bytes))
    if characters > context * longest:  # known without a look at megabytes of text, for which others would have to wait
        raise _too_long(f"has {characters:,} characters", context)
    prompt = session.encode(turns)
    features = MediaFeatures(session.senses)
    if len(prompt.tokens) >= context:
        raise _too_long(f"takes {len(prompt.tokens)} positions", context)
    media = {kind: sum(features.count(m) for m in prompt.media if m.kind == kind) for kind in MODALITIES}
    return ReadConversation(session.respondent.embed([prompt], features), len(prompt.tokens) - sum(media.values()), media)


def _too_long(found: str, context: int) -> RequestError:
    fix = "leave out the oldest messages, or say it in fewer words; a second of audio is 12.5 positions"
    message = f"the conversation {found}; this model reads {context} positions, its reply included"
    return RequestError(message, fix=fix, where="messages", code="context_length_exceeded")


class _MessageReader:
    """Reads the messages of one request.

    Args:
        session: takes in images and recordings.
        limits: of these.
        spoken: knows what was said aloud before.
        folder: for the time of reading.
    """

    def __init__(self, session: Session, limits: ServeLimits, spoken: SpokenReplies, folder: Path) -> None:
        self._session, self._limits, self._spoken, self._folder = session, limits, spoken, folder
        self._num_media = 0

    def read(self, message: ChatMessage, where: str) -> Message:
        role: Role = "system" if message.role == "developer" else message.role
        if isinstance(message.content, str):
            return Message(role, (message.content,))
        if message.content is None:
            if message.audio is None:
                raise RequestError("the message says nothing", fix="give its content", where=f"{where}.content")
            return Message(role, (self._spoken.text(message.audio.id, f"{where}.audio.id"),))
        parts = tuple(self._part(part, f"{where}.content.{number}") for number, part in enumerate(message.content))
        return Message(role, parts)

    def _part(self, part: ContentPart, where: str) -> Part:
        if isinstance(part, TextPart):
            return part.text
        if isinstance(part, ImagePart):
            return self._media("image", bytes_of_data_url(part.image_url.url, f"{where}.image_url.url"), where)
        assert isinstance(part, AudioPart)
        return self._media("audio", bytes_of_base64(part.input_audio.data, f"{where}.input_audio.data"), where)

    def _media(self, kind: MediaKind, data: bytes, where: str) -> Media:
        self._num_media += 1
        if self._num_media > self._limits.images:
            most = self._limits.images
            raise RequestError(f"more than {most} images and recordings", fix=f"send at most {most}", where=where)
        if kind not in self._session.senses:
            noun, stage = MODALITIES[kind].noun, MODALITIES[kind].stage
            fix = f"serve one that has: `omnictl {stage}`, then `omnictl sft`"
            raise RequestError(f"this model has never learned from {noun}s", fix=fix, where=where)
        path = self._folder / str(self._num_media)
        write_media(kind, data, path, self._limits, where)
        try:
            return self._session.show(Attachment(kind, path))
        except OmniError as error:
            raise RequestError(error.message.replace(str(path), where), fix=error.fix, where=where) from error
