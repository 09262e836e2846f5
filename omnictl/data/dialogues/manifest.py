"""Dialogues in JSONL: one object a line with `messages`, optionally `task`, `id` and `split`.

    {"messages": [{"role": "user", "content": [{"type": "image", "image": "images/1.png"}, {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "A red circle."}], "task": "naming", "split": "train"}

`content` is a string, or a list of parts; texts that follow one another are one. Paths are relative to the file, and none may leave
its folder. What the assistant says is text; a recording beside it is that text spoken, which is there to be checked and heard, not
to be trained on. A row that cannot be used becomes a `BrokenRow`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, cast

from omnictl.config.split import Split
from omnictl.config.suggest import nearest
from omnictl.data.dialogues.chat_template import Role
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.manifest.rows import (
    BrokenRow,
    Flaw,
    Manifest,
    find_media_file,
    json_type,
    missing_path_error,
    optional_text,
    read_split,
    require_text,
)
from omnictl.data.manifest.tables import read_lines
from omnictl.errors import DataError

FILE_NAMES = ("dialogues.jsonl", "metadata.jsonl", "manifest.jsonl")
"""Of a folder's manifest."""

RECOGNISED = "manifest: dialogues.jsonl, metadata.jsonl or manifest.jsonl with messages[,task,id,split]"

ANY_TASK = "dialogue"
"""The task of rows that name none."""

_ROLES = ("system", "user", "assistant")
_NEEDS = 'a row is an object with "messages": a list of {"role": "user" or "assistant", "content": text or parts}'

Find = Callable[[str, str], Path]
"""The file of an image or a recording: what it is called, and its path as the row has it."""


class MediaFile(NamedTuple):
    """An image or a recording."""

    kind: MediaKind
    file: Path
    """Absolute, below the corpus folder."""


class MessageRow(NamedTuple):
    """What one side says."""

    role: Role
    parts: tuple[str | MediaFile, ...]
    spoken: tuple[MediaFile, ...] = ()
    """The assistant's text as a recording, if there is one."""


class DialogueRow(NamedTuple):
    """A dialogue."""

    id: str
    task: str
    messages: tuple[MessageRow, ...]
    split: Split | None
    where: str

    @property
    def media(self) -> tuple[MediaFile, ...]:
        """All images and recordings in the order in which they stand."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, MediaFile))

    @property
    def file(self) -> Path:
        """Rows about the same first image or recording stay in one split."""
        return next((media.file for media in self.media), Path(self.id))


DialogueManifest = Manifest[DialogueRow]


def find_dialogues(path: Path) -> Path:
    """The file of dialogues that a path means: itself, or the manifest of a folder.

    Raises:
        DataError: there is none.
    """
    if not path.exists():
        raise missing_path_error(path)
    if not path.is_dir():
        return path
    file = next((path / name for name in FILE_NAMES if (path / name).is_file()), None)
    if file is None:
        raise DataError(f"{path} has no file of dialogues: {' or '.join(FILE_NAMES)}", where=str(path), fix=_NEEDS)
    return file


def read_dialogues(path: Path) -> DialogueManifest:
    """The dialogues of a `.jsonl` file, or of a folder with one.

    Raises:
        DataError: no such file, not JSONL, not valid UTF-8, or no row that can be used.
    """
    file = find_dialogues(path)
    if file.suffix.lower() != ".jsonl":
        raise DataError(f"{file} is not a .jsonl file of dialogues", where=str(file), fix=_NEEDS)
    folder = file.parent.resolve()
    find = cache(partial(find_media_file, folder=folder))
    rows: dict[str, DialogueRow] = {}
    broken: list[BrokenRow] = []
    for number, line in read_lines(file, f"write one line per dialogue; {_NEEDS}"):
        where = f"{file}:{number}"
        try:
            row = _row(_object(line), f"line {number}", where, lambda what, name: find(what, path=name))
            if row.id in rows:
                raise Flaw(f"the id {row.id!r} is that of {rows[row.id].where}, too")
            rows[row.id] = row
        except Flaw as flaw:
            broken.append(BrokenRow(f"line {number}", where, str(flaw)))
    if not rows:
        reason = f": {broken[0].message}" if broken else ""
        raise DataError(f"no row of {file} can be used{reason}", where=broken[0].where if broken else str(file), fix=_NEEDS)
    return Manifest(folder, tuple(rows.values()), tuple(broken))


def _object(line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Flaw(f"broken JSON: {error}") from error
    if not isinstance(value, dict):
        raise Flaw(f"an object was expected, found {json_type(value)}")
    if "messages" not in value:
        close_key = nearest("messages", list(value))
        hint = f"; rename {close_key!r}" if close_key else ""
        raise Flaw(f"no key 'messages' (found {', '.join(map(repr, value)) or 'no keys'}){hint}")
    return value


def _row(fields: Mapping[str, Any], number: str, where: str, find: Find) -> DialogueRow:
    return DialogueRow(
        id=optional_text("id", fields.get("id")) or number,
        task=optional_text("task", fields.get("task")) or ANY_TASK,
        messages=_messages(fields["messages"], find),
        split=read_split(fields.get("split")),
        where=where,
    )


def _messages(value: object, find: Find) -> tuple[MessageRow, ...]:
    if not isinstance(value, list) or not value:
        raise Flaw(f"messages should be a list of messages, found {'an empty list' if value == [] else json_type(value)}")
    messages = tuple(_message(message, number, find) for number, message in enumerate(value, start=1))
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
        raise Flaw(f"user and assistant should take turns, the assistant last; found {', '.join(roles)}")
    return messages


def _message(value: object, number: int, find: Find) -> MessageRow:
    name = f"message {number}"
    if not isinstance(value, dict):
        raise Flaw(f"{name} should be an object with role and content, found {json_type(value)}")
    role = value.get("role")
    if role not in _ROLES:
        raise Flaw(f"the role of {name} is {role!r}, expected one of {', '.join(_ROLES)}")
    content = value.get("content")
    parts = tuple(_parts(content, name, find)) if isinstance(content, list) else (require_text(f"content of {name}", content),)
    if not parts:
        raise Flaw(f"the content of {name} is an empty list")
    if role == "user":
        return MessageRow("user", tuple(_join_texts(parts)))
    media = tuple(part for part in parts if isinstance(part, MediaFile))
    if any(part.kind == "image" for part in media):
        raise Flaw(f"{name} is the {role}'s and shows an image; only what the user says may")
    if media and role == "system":
        raise Flaw(f"{name} is the system's and has audio; only those of the user and the assistant may")
    texts = tuple(_join_texts(part for part in parts if isinstance(part, str)))
    if not texts:
        raise Flaw(f"{name} is the {role}'s and has no text")
    return MessageRow(cast("Role", role), texts, media)


def _join_texts(parts: Iterable[str | MediaFile]) -> Iterator[str | MediaFile]:
    """The parts, texts that follow one another as one, without white space around it."""
    for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(cast("Iterable[str]", group)).strip()
        else:
            yield from group


def _parts(content: list[object], message: str, find: Find) -> Iterator[str | MediaFile]:
    known = ("text", *MODALITIES)
    for number, part in enumerate(content, start=1):
        place = f"part {number} of {message}"
        if not isinstance(part, dict):
            raise Flaw(f"{place} should be an object with a type, found {json_type(part)}")
        kind = part.get("type")
        if kind not in known:
            raise Flaw(f"the type of {place} is {kind!r}, expected one of {', '.join(known)}")
        if kind not in part:
            raise Flaw(f"{place} is of type {kind!r} and has no key {kind!r} (found {', '.join(map(repr, part))})")
        if kind == "text":
            require_text(place, part[kind])  # or it is a flaw
            yield cast("str", part[kind])
        else:
            yield MediaFile(cast("str", kind), find(cast("str", kind), require_text(f"path of {place}", part[kind])))
