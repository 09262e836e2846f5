"""Dialogues with text, images and recordings, and how a Thinker reads them: ChatML, and placeholders where media stand.

An image or a recording is a run of placeholder tokens, one for each feature that an encoder makes of it; the features take their
places. Only what the assistant says is learned, with the mark that ends it. Source: OpenAI 2023 (ChatML).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.text.tokenizer import END, IM_END, IM_START, Tokenizer
from omnictl.nn.losses.ignore_index import IGNORE

Role = Literal["system", "user", "assistant"]


class Media(NamedTuple):
    """An image or a recording of a corpus."""

    kind: MediaKind
    number: int
    """Which image, or which recording, of its split."""


Part = str | Media


class Message(NamedTuple):
    """What one side says: texts, images and recordings in order."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The texts alone."""
        return "".join(part for part in self.parts if isinstance(part, str))


class Dialogue(NamedTuple):
    """Turns that end with the assistant's; its last answer is the one that is judged."""

    id: str
    task: str
    messages: tuple[Message, ...]
    where: str
    rejected: str | None = None
    """A worse reply in the place of the last answer, where one is known."""

    @property
    def media(self) -> tuple[Media, ...]:
        """All images and recordings in the order in which they stand."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, Media))

    @property
    def answer(self) -> str:
        """The last answer."""
        return self.messages[-1].text


class Tokens(NamedTuple):
    """A dialogue, or a document, as a Thinker reads it."""

    tokens: list[int]
    targets: list[int]
    """What is to be predicted after each token, `IGNORE` where nothing is."""
    media: tuple[Media, ...]
    """Whose features take the placeholders, in order."""


Int64 = NDArray[np.int64]

Grids = Mapping[MediaKind, tuple[int, int] | None]
"""Rows and columns of the features of each kind, None of what is only one after the other."""

Count = Callable[[Media], int]
"""How many features there are of an image or a recording."""


class ChatTemplate:
    """Writes messages down in ChatML.

    Args:
        tokenizer: of the Thinker.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._newline = tokenizer.encode("\n", markup=False)

    def dialogue(self, messages: Sequence[Message], count: Count) -> Tokens:
        """A whole dialogue; what the assistant says, and the mark that ends it, is to be predicted."""
        tokens, learned = [END], [False]
        for number, message in enumerate(messages):
            before = [*(self._newline if number else ()), *self.opening(message.role)]
            content = [*self._content(message.parts, count), IM_END]
            tokens += [*before, *content]
            learned += [*[False] * len(before), *[message.role == "assistant"] * len(content)]
        following = zip(tokens[1:], learned[1:], strict=True)
        return Tokens(tokens[:-1], [token if is_learned else IGNORE for token, is_learned in following], list_media(messages))

    def prompt(self, messages: Sequence[Message], count: Count) -> Tokens:
        """Messages up to where the assistant begins to answer."""
        tokens = [END]
        for message in messages:
            tokens += [*self.opening(message.role), *self._content(message.parts, count), IM_END, *self._newline]
        tokens += self.opening("assistant")
        return Tokens(tokens, [IGNORE] * len(tokens), list_media(messages))

    def opening(self, role: Role) -> list[int]:
        """How a message begins."""
        return [IM_START, *self.tokenizer.encode(role, markup=False), *self._newline]

    def _content(self, parts: Iterable[Part], count: Count) -> list[int]:
        return [token for part in parts for token in self._part(part, count)]

    def _part(self, part: Part, count: Count) -> list[int]:
        if isinstance(part, Media):
            return [MODALITIES[part.kind].placeholder] * count(part)
        return self.tokenizer.encode(part, markup=False)


def list_media(messages: Iterable[Message]) -> tuple[Media, ...]:
    """All images and recordings of some messages in the order in which they stand."""
    return tuple(part for message in messages for part in message.parts if isinstance(part, Media))


def strip_media(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same messages with their texts alone."""
    return tuple(Message(message.role, tuple(part for part in message.parts if isinstance(part, str))) for message in messages)


def compute_positions(encoded: Tokens, count: Count, grids: Grids) -> Int64:
    """Time-aware positions `(T, 3)`: moment, row and column of every token.

    Text and audio count on, all three alike. Features of an image share the moment at which it stands and lie in rows and columns
    from there; what follows counts on after the larger of the two. Source: Xu et al. 2025 (Qwen2.5-Omni).
    """
    parts: list[Int64] = []
    now = at = 0
    for media in (*encoded.media, None):
        stop = encoded.tokens.index(MODALITIES[media.kind].placeholder, at) if media else len(encoded.tokens)
        parts.append(np.arange(now, now + stop - at)[:, None].repeat(3, 1))
        now += stop - at
        if media:
            num_features, grid = count(media), grids[media.kind]
            offsets = np.arange(num_features)[:, None].repeat(3, 1) if grid is None else _grid_offsets(*grid)
            parts.append(now + offsets)
            now += max(grid or (num_features,))
            at = stop + num_features
    return np.concatenate(parts)


def _grid_offsets(rows: int, columns: int) -> Int64:
    row, column = np.indices((rows, columns)).reshape(2, -1)
    return np.stack([np.zeros_like(row), row, column], 1)
