"""What was said in a voice conversation: items in order, and of interrupted replies only what was heard."""

import base64
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from omnictl.data.audio.decoder import wav_bytes
from omnictl.data.speech.corpus import Samples
from omnictl.serve.endpoints.chat_schema import AudioPart, ChatMessage, ContentPart, ImagePart, ImageUrl, InputAudio, TextPart
from omnictl.serve.realtime.session_schema import ItemPart, NewItem
from omnictl.serve.replies.audio_formats import PCM_HZ, samples_of_pcm
from omnictl.serve.replies.media import bytes_of_base64
from omnictl.serve.traffic.errors import RequestError

MOST_ITEMS = 512
CHARACTERS_A_SECOND = 15.0
"""Of speech at its usual speed, about 150 words a minute."""


def new_id(kind: str) -> str:
    """An id that nothing else has."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


@dataclass
class Item:
    """What one side said."""

    id: str
    role: Literal["system", "user", "assistant"]
    parts: list[ContentPart]
    transcript: str | None = None
    """Of what was said aloud."""
    sentences: list[tuple[str, float]] = field(default_factory=list)
    """Of a spoken reply: its sentences, and the seconds at which each begins."""
    spoken: bool = False
    """Whether it is a reply that is said aloud."""
    seconds: float = 0.0
    """Of a spoken reply, so far."""
    said_whole: bool = False
    """Whether the last of the sentences ends there; else more of it may follow."""
    speed: float = 1.0
    """Of the voice."""
    complete: bool = True

    @property
    def text(self) -> str:
        """What is written in it."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def as_json(self) -> dict[str, object]:
        """The item as events have it; audio is left out, as OpenAI does."""
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed" if self.complete else "incomplete",
            "role": self.role,
            "content": [self._part(part) for part in self.parts],
        }

    def _part(self, part: ContentPart) -> dict[str, object]:
        if isinstance(part, AudioPart):
            return {"type": "input_audio", "transcript": self.transcript}
        if isinstance(part, ImagePart):
            return {"type": "input_image"}
        if self.role != "assistant":
            return {"type": "input_text", "text": part.text}
        return {"type": "output_audio", "transcript": part.text} if self.spoken else {"type": "output_text", "text": part.text}

    def truncate(self, heard_seconds: float) -> None:
        """Keep of a spoken reply what was heard until then: whole sentences, and of the last one as many words as fit."""
        heard: list[tuple[str, float]] = []
        ends = [*(start for _, start in self.sentences[1:]), self._last_end()]
        heard_seconds = min(self.seconds, heard_seconds)
        for (sentence, start), end in zip(self.sentences, ends, strict=False):
            share = min(1.0, (heard_seconds - start) / max(end - start, 1e-6))
            if share <= 0:
                break
            heard.append((sentence if share == 1 else _first_words(sentence, share), start))
        self.parts = [TextPart(type="text", text="".join(sentence for sentence, _ in heard).strip())]
        self.sentences, self.seconds = heard, heard_seconds  # what was not heard does not come back
        self.said_whole, self.complete = True, False

    def _last_end(self) -> float:
        """Second at which the last sentence ends; while it is being said, by the pace of those before it."""
        if self.said_whole or not self.sentences:
            return self.seconds
        *before, (last, start) = self.sentences
        pace = sum(len(sentence) for sentence, _ in before) / start if start else CHARACTERS_A_SECOND * self.speed
        return max(self.seconds, start + len(last) / pace)


def _first_words(sentence: str, share: float) -> str:
    """The words of a sentence that are over after this share of it."""
    return sentence[: int(share * len(sentence)) + 1].rpartition(" ")[0]


def audio_item(samples: Samples, item_id: str) -> Item:
    """What the user said: `(n,)` samples at 24 kHz."""
    data = base64.b64encode(wav_bytes(samples, PCM_HZ)).decode()
    return Item(item_id, "user", [AudioPart(type="input_audio", input_audio=InputAudio(data=data))])


def item_of(new: NewItem) -> Item:
    """An item that the client adds.

    Raises:
        RequestError: it has something that its role cannot say.
    """
    parts = [_content(part, new.role, f"item.content.{number}") for number, part in enumerate(new.content)]
    return Item(new.id or new_id("item"), new.role, parts)


def _content(part: ItemPart, role: str, where: str) -> ContentPart:
    if role == "user" and part.type == "input_audio" and part.audio is not None:
        samples = samples_of_pcm(even_bytes(bytes_of_base64(part.audio, f"{where}.audio"), f"{where}.audio"))
        data = base64.b64encode(wav_bytes(samples, PCM_HZ)).decode()
        return AudioPart(type="input_audio", input_audio=InputAudio(data=data))
    if role == "user" and part.type == "input_image" and part.image_url is not None:
        return ImagePart(type="image_url", image_url=ImageUrl(url=part.image_url))
    text = part.transcript if part.type == "output_audio" else part.text
    if text is None or (role != "assistant" and part.type in ("output_text", "output_audio")):
        raise RequestError(f"a {role} cannot say {part.type} without more", fix="give `text`, or another type", where=where)
    return TextPart(type="text", text=text)


def even_bytes(data: bytes, where: str) -> bytes:
    """The same bytes.

    Raises:
        RequestError: they are not whole samples of 16 bits.
    """
    if len(data) % 2:
        raise RequestError(f"{len(data)} bytes are not whole samples of 16 bits", fix="send pairs of bytes", where=where)
    return data


class Dialogue:
    """Items in order."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Add one at the end, or behind another.

        Args:
            item: what was said.
            after: the id of the one before it; "root": it becomes the first.

        Returns:
            The id of the one before it.

        Raises:
            RequestError: there are too many, one of its id, or none that it could come after.
        """
        if item.id in self._items:
            raise RequestError(f"there is an item {item.id[:64]!r} already", fix="give it another id", where="item.id")
        if self.is_full:
            fix = "delete the oldest, or begin a new conversation"
            raise RequestError(f"the conversation has {MOST_ITEMS} items, which are the most", fix=fix, where="item")
        ids = list(self._items)
        place = len(ids) if after is None else self._place_after(after)
        later = {item_id: self._items.pop(item_id) for item_id in ids[place:]}
        self._items |= {item.id: item, **later}
        return ids[place - 1] if place else None

    def _place_after(self, item_id: str) -> int:
        return 0 if item_id == "root" else list(self._items).index(self.find(item_id, "previous_item_id").id) + 1

    def find(self, item_id: str, where: str = "item_id") -> Item:
        """An item.

        Raises:
            RequestError: there is none of that id.
        """
        if item_id not in self._items:
            raise RequestError(f"there is no item {item_id[:64]!r}", fix="name one of this conversation", where=where)
        return self._items[item_id]

    def delete(self, item_id: str) -> None:
        """Forget an item.

        Raises:
            RequestError: there is none of that id.
        """
        self.find(item_id)
        del self._items[item_id]

    @property
    def is_full(self) -> bool:
        """Whether no more items may come."""
        return len(self._items) >= MOST_ITEMS

    @property
    def oldest_id(self) -> str | None:
        """The id of the oldest item that is no instruction."""
        return next((item.id for item in self._items.values() if item.role != "system"), None)

    @property
    def last_id(self) -> str | None:
        """The id of the newest item."""
        return next(reversed(self._items), None)

    def messages(self, instructions: str | None) -> list[ChatMessage]:
        """All that was said, as a chat completion takes it; replies of which nothing was heard are left out."""
        opening = [ChatMessage(role="system", content=instructions)] if instructions else []
        return [*opening, *_spoken(list(self._items.values()))]


def _spoken(items: Sequence[Item]) -> Iterator[ChatMessage]:
    for item in items:
        if item.role == "assistant" and not item.text:
            continue
        yield ChatMessage(role=item.role, content=item.parts)
