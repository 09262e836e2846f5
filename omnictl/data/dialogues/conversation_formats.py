"""Dialogues as other programs write them, turned into rows of `messages` whose parts are text, images and audio.

- ShareGPT and LLaVA: `conversations` of `from` and `value` (or `role` and `content`), media in `image`, `images`, `audio`, `audios`
  beside them, and a mark `<image>` or `<audio>` in the text where each belongs;
- Swift and LLaMA-Factory: the same beside `messages`;
- TRL, LLaMA-Factory and Swift: pairs of replies as `chosen` and `rejected`, with `prompt` or turns before them, or as
  `rejected_response` beside `messages`;
- OpenAI: `image_url` and `input_audio` as parts of `content`, most often as data URLs.

Nothing is guessed: marks and media have to be of the same number, and what carries data and is not read is a flaw.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from omnictl.data.dialogues.modalities import MODALITIES
from omnictl.data.manifest.rows import Flaw, json_type

CONVERSATION_KEYS = ("messages", "conversations", "conversation", "chosen")
"""Under which a row has its turns; the first is our own."""

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "developer": "system",
}
_MEDIA_KEYS = {key: kind for kind in MODALITIES for key in (f"{kind}s", kind)}
"""Beside the turns: `images` and `image`, `audios` and `audio`."""
_UNREAD_MEDIA = ("video", "videos", "objects", "tools")
_MARK = re.compile(rf"<({'|'.join(MODALITIES)})>")

KNOWN_KEYS = (
    *CONVERSATION_KEYS,
    *_MEDIA_KEYS,
    *_UNREAD_MEDIA,
    "system",
    "prompt",
    "rejected",
    "rejected_response",
    "id",
    "task",
    "split",
)
"""Of a row: what is read, and what is refused if there is something in it."""

Fields = Mapping[str, Any]


def conversation_key(fields: Fields) -> str | None:
    """The key of a row's turns, if it has one."""
    return next((key for key in CONVERSATION_KEYS if key in fields), None)


def unify(fields: Fields) -> Fields:
    """A row with `messages`, whose content says where each image and recording stands.

    Raises:
        Flaw: marks and media do not match, or there are media that are not read.
    """
    fields = _unify_pair(fields)
    key = conversation_key(fields)
    assert key is not None
    unread = next((name for name in _UNREAD_MEDIA if fields.get(name)), None)
    if unread is not None:
        raise Flaw(f"the row has {unread!r}, which are not read: take the row out, or describe them in the text")
    media = {kind: iter(files) for kind, files in _media_beside(fields).items()}
    turns = fields[key]
    if not isinstance(turns, list):
        return {**fields, "messages": turns}
    if media:
        _check_numbers(turns, _media_beside(fields))
    messages = [_unify_turn(turn, media, marked=bool(media) or key != "messages") for turn in turns]
    if isinstance(system := fields.get("system"), str) and system.strip():
        messages = [{"role": "system", "content": system}, *messages]
    row_id = fields.get("id")
    is_number = isinstance(row_id, int) and not isinstance(row_id, bool) and key != "messages"
    return {**fields, "messages": messages, "id": str(row_id) if is_number else row_id}


def _unify_pair(fields: Fields) -> Fields:
    """A row with a pair of replies as one with `messages` that end with the better one, and the other as a text.

    Raises:
        Flaw: they do not answer the same.
    """
    if "chosen" not in fields:
        return {**fields, "rejected": fields["rejected_response"]} if "rejected_response" in fields else fields
    key = conversation_key(fields)
    before = fields.get("prompt", []) if key == "chosen" else fields[key or ""]
    chosen, rejected = (_as_turns(name, fields.get(name), "assistant") for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Flaw("'chosen' and 'rejected' differ before their last message: both have to answer the same")
    others = {name: value for name, value in fields.items() if name not in ("prompt", "chosen", *CONVERSATION_KEYS)}
    worse = rejected[-1].get("content", rejected[-1].get("value"))
    return {**others, "messages": [*_as_turns("prompt", before, "user"), *chosen], "rejected": worse}


def _as_turns(name: str, value: object, role: str) -> list[Any]:
    """A text as a turn of a role; a turn as a list of it; turns as they are."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    turns = value if isinstance(value, list) else [value]
    if not all(isinstance(turn, dict) for turn in turns) or (not turns and name != "prompt"):
        raise Flaw(f"{name!r} should be a text or a list of messages, found {json_type(value)}")
    return turns


def _media_beside(fields: Fields) -> dict[str, list[object]]:
    """The media that stand beside the turns, by kind; a kind that the row does not name is left out."""
    media: dict[str, list[object]] = {}
    for key, kind in _MEDIA_KEYS.items():
        value = fields.get(key)
        if value is None or value == "":
            continue
        if kind in media:
            raise Flaw(f"the row has both {kind!r} and '{kind}s': keep one of them")
        media[kind] = list(value) if isinstance(value, list) else [value]
    return media


def _check_numbers(turns: Sequence[object], media: Mapping[str, Sequence[object]]) -> None:
    """Compare how many places the turns have with how many media there are.

    Raises:
        Flaw: another number.
    """
    places = [kind for turn in turns for kind in _places(turn)]
    for kind in MODALITIES:
        num_files, num_places = len(media.get(kind, ())), places.count(kind)
        if num_files != num_places:
            noun = f"{kind} file" if num_files == 1 else f"{kind} files"
            raise Flaw(f"{num_places} <{kind}> in the text, {num_files} {noun} in the row: each file needs one mark in its place")


def _places(turn: object) -> Iterator[str]:
    """The kinds of media that a turn has places for, in order: marks in its text, and parts without a file of their own."""
    content = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield from _MARK.findall(part)
        elif isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            yield from _MARK.findall(part["text"])
        elif isinstance(part, dict) and part.get("type") in MODALITIES and set(part) <= {"type"}:
            yield cast("str", part["type"])


def _unify_turn(turn: object, media: Mapping[str, Iterator[object]], *, marked: bool) -> object:
    """A turn as a message. Where `marked`, marks in its text are places of media, else they are letters."""
    if not isinstance(turn, dict):
        return turn
    role = turn.get("role", turn.get("from"))
    role = _ROLES.get(role, role) if isinstance(role, str) and ("from" in turn or marked or role == "developer") else role
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        if marked:
            content = list(_split_at_marks(content, media)) if _MARK.search(content) else content
        elif (stray := re.match(_MARK, content.strip())) is not None:
            raise Flaw(f"a text begins with {stray[0]}, and the row has no '{stray[1]}s': give their paths under that key")
    elif isinstance(content, list):
        content = [unified for part in content for unified in _unify_part(part, media)]
    return {"role": role, "content": content}


def _split_at_marks(text: str, media: Mapping[str, Iterator[object]]) -> Iterator[dict[str, object]]:
    """Parts of a text and the media between them."""
    for number, piece in enumerate(_MARK.split(text)):
        if number % 2:
            yield _next_file(piece, media)
        elif piece.strip():
            yield {"type": "text", "text": piece}


def _next_file(kind: str, media: Mapping[str, Iterator[object]]) -> dict[str, object]:
    file = next(media[kind], None) if kind in media else None
    if file is None:
        raise Flaw(f"a text has <{kind}>, and the row has no '{kind}s': give their paths under that key")
    return {"type": kind, kind: _path_of(file, kind)}


def _path_of(file: object, kind: str) -> object:
    """The path in what stands for a file: itself, or an object with it."""
    if isinstance(file, dict):
        return next((file[key] for key in ("path", "url", kind) if file.get(key)), file)
    return file.removeprefix("file://") if isinstance(file, str) else file


def _unify_part(part: object, media: Mapping[str, Iterator[object]]) -> Iterator[object]:
    """A part as ours, or as it is where it is not known: what is wrong with it is for the manifest to say."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str):
        yield part
    elif kind in ("input_text", "output_text") or (kind == "text" and media):
        text = part.get("text")
        yield from _split_at_marks(text, media) if media and isinstance(text, str) else [{"type": "text", "text": text}]
    elif kind in ("image_url", "input_image", "audio_url"):
        ours, value = ("audio" if kind == "audio_url" else "image"), part.get("image_url", part.get("audio_url"))
        yield {"type": ours, ours: _path_of(value, ours)}
    elif kind == "input_audio":
        yield {"type": "audio", "audio": _input_audio(part.get("input_audio"))}
    elif kind in MODALITIES and set(part) <= {"type"} and media:
        yield _next_file(kind, media)
    elif kind in MODALITIES and kind in part:
        yield {**part, kind: _path_of(part[kind], kind)}
    else:
        yield part


def _input_audio(value: object) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise Flaw(f"input_audio should be an object with data and format, found {json_type(value)}")
    return f"data:audio/{value.get('format', 'wav')};base64,{value['data']}"
