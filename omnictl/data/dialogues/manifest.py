"""Dialogues in JSON: objects with `messages`, one a line or in a list, optionally with `task`, `id` and `split`.

    {"messages": [{"role": "user", "content": [{"type": "image", "image": "images/1.png"}, {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "A red circle."}], "task": "naming", "split": "train"}

`content` is a string, or a list of parts; texts that follow one another are one. Paths are relative to the file, and none may leave
its folder. What the assistant says is text; a recording beside it is that text spoken, which is there to be checked and heard, not
to be trained on. `rejected` is a worse reply than the last one, for `sft --objective dpo`. What other programs write is turned into
this first (`conversation_formats`). A row that cannot be used becomes a `BrokenRow`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple, cast

from omnictl.config.split import Split
from omnictl.config.suggest import nearest
from omnictl.data.dialogues.chat_template import Role
from omnictl.data.dialogues.conversation_formats import KNOWN_KEYS, conversation_key, unify
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.manifest.compression import plain_suffix
from omnictl.data.manifest.json_objects import JSON_SUFFIXES, JsonValue, read_json_values
from omnictl.data.manifest.rows import (
    BrokenRow,
    Flaw,
    Manifest,
    find_media_file,
    json_type,
    log_passed_over,
    log_unread_keys,
    missing_path_error,
    optional_text,
    read_split,
    require_text,
)
from omnictl.data.manifest.split_names import split_of_name
from omnictl.data.packed.media_store import is_data_url, store_data_url
from omnictl.data.packed.unpack import find_packed, require_kind, unpack
from omnictl.errors import DataError

FILE_NAMES = ("dialogues.jsonl", "metadata.jsonl", "manifest.jsonl")
"""Of a folder's manifest, in this order; of others, every file of JSON that begins with a dialogue is read."""

RECOGNISED = """\
manifest: dialogues.jsonl, metadata.jsonl or manifest.jsonl with messages[,rejected,task,id,split]
others: .jsonl or .json files (also .gz, .zst) with messages or conversations, and images or audios beside them
packed: .parquet or .arrow files (Hugging Face datasets) or .tar files (WebDataset) with messages or conversations"""

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
    rejected: str | None = None
    """A worse reply than the last one."""

    @property
    def media(self) -> tuple[MediaFile, ...]:
        """All images and recordings in the order in which they stand."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, MediaFile))

    @property
    def file(self) -> Path:
        """Rows about the same first image or recording stay in one split."""
        return next((media.file for media in self.media), Path(self.id))


DialogueManifest = Manifest[DialogueRow]


def find_dialogue_files(path: Path) -> list[Path]:
    """The files of dialogues that a path means: itself, or the manifest of a folder, or all that begin with a dialogue.

    What of a folder's JSON is passed over is logged.

    Raises:
        DataError: there is none, or a file cannot be read, so that nobody knows what it holds.
    """
    if not path.exists():
        raise missing_path_error(path)
    if not path.is_dir():
        return [path]
    manifest = next((path / name for name in FILE_NAMES if (path / name).is_file()), None)
    candidates = [file for file in sorted(path.iterdir()) if _is_json(file)]
    files = [file for file in candidates if _holds_dialogues(file)] if manifest is None else [manifest]
    if not files:
        raise DataError(f"{path} has no file of dialogues\nRecognised are\n{RECOGNISED}", where=str(path), fix=_NEEDS)
    reason = "no dialogues" if manifest is None else f"the dialogues are those of {manifest.name}"
    log_passed_over(path, [file for file in candidates if file not in files], reason)
    return files


def _has_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILE_NAMES) or any(
        _is_json(file) and _holds_dialogues(file) for file in folder.iterdir()
    )


def _is_json(file: Path) -> bool:
    return plain_suffix(file) in JSON_SUFFIXES and not file.name.startswith(".") and file.is_file()


def begins_with_dialogue(file: Path) -> bool:
    """Whether the first object of a file of JSON has turns; false for one that cannot be read."""
    with suppress(DataError):  # its reader will say it
        return _holds_dialogues(file)
    return False


def _holds_dialogues(file: Path) -> bool:
    """Whether the first value that can be read in a file of JSON has turns.

    Raises:
        DataError: none can be read.
    """
    flawed: JsonValue | None = None
    for value in read_json_values(file, "write dialogues into it, or take it out of the folder"):
        if value.flaw is None:
            return isinstance(value.value, dict) and conversation_key(value.value) is not None
        flawed = flawed or value
    if flawed is None:
        return False
    raise DataError(
        f"no line of {file} can be read: {flawed.flaw}", where=flawed.where, fix="mend the file, or take it out of the folder"
    )


def read_dialogues(path: Path) -> DialogueManifest:
    """The dialogues of a `.jsonl` or `.json` file, or of a folder of them.

    In a folder, a row that names no split has that of its file's name.

    Raises:
        DataError: no such file, not JSON, not valid UTF-8, or no row that can be used.
    """
    packed = find_packed(path) if path.exists() and not (path.is_dir() and _has_files(path)) else None
    if packed is not None:
        unpacked = unpack(require_kind(packed, "dialogues"))
        values = (JsonValue(where, fields) for where, fields in unpacked.records)
        names = ((f"row {number}", value) for number, value in enumerate(values, start=1))
        return _collect(path, unpacked.folder, names)
    files = find_dialogue_files(path)
    wrong = next((file for file in files if plain_suffix(file) not in JSON_SUFFIXES), None)
    if wrong is not None:
        raise DataError(f"{wrong} is not a .jsonl or .json file of dialogues", where=str(wrong), fix=_NEEDS)
    rows = chain.from_iterable(
        _values(file, split_of_name(file.name) if path.is_dir() else None, several=len(files) > 1) for file in files
    )
    return _collect(path, files[0].parent.resolve(), rows)


def _values(file: Path, split: Split | None, *, several: bool) -> Iterator[tuple[str, JsonValue]]:
    """The rows of a file, each with what it is called: where there are several files, with the file's name. Those that name no
    split have the one given."""
    for number, value in enumerate(read_json_values(file, f"write one line per dialogue; {_NEEDS}"), start=1):
        name = _short_place(value, file, number)
        if split is not None and isinstance(value.value, dict):
            value = value._replace(value={"split": split, **value.value})
        yield f"{file.name}: {name}" if several else name, value


def _collect(path: Path, folder: Path, values: Iterable[tuple[str, JsonValue]]) -> DialogueManifest:
    rows: dict[str, DialogueRow] = {}
    broken: list[BrokenRow] = []
    find, unread = _media_finder(folder), Counter[str]()
    for name, value in values:
        if isinstance(value.value, dict):
            unread.update(key for key, held in value.value.items() if key not in KNOWN_KEYS and held not in (None, "", [], {}))
        try:
            row = _row(_object(value), name, value.where, find)
            if row.id in rows:
                raise Flaw(f"the id {row.id!r} is that of {rows[row.id].where}, too")
            rows[row.id] = row
        except Flaw as flaw:
            broken.append(BrokenRow(name, value.where, str(flaw)))
    log_unread_keys(str(path), unread)
    if not rows:
        reason = f": {broken[0].message}" if broken else ""
        raise DataError(f"no row of {path} can be used{reason}", where=broken[0].where if broken else str(path), fix=_NEEDS)
    return Manifest(folder, tuple(rows.values()), tuple(broken))


def _short_place(value: JsonValue, file: Path, number: int) -> str:
    """What a row without an id is called: by its line, or in a list, where one line may hold all, by its number."""
    line = value.where.rpartition(":")[2]
    return f"line {line}" if plain_suffix(file) == ".jsonl" else f"item {number}"


def _media_finder(folder: Path) -> Find:
    find_file = cache(partial(find_media_file, folder=folder))
    store = cache_dir()

    def find(kind: str, path: str) -> Path:
        if is_data_url(path):
            return store_data_url(path, store)
        if path.startswith(("http://", "https://")):
            raise Flaw(f"the {kind} {path[:80]} is on the web: download it and give its path")
        return find_file(kind, path=path)

    return find


def _object(value: JsonValue) -> Mapping[str, Any]:
    if value.flaw is not None:
        raise Flaw(value.flaw)
    if not isinstance(value.value, dict):
        raise Flaw(f"an object was expected, found {json_type(value.value)}")
    fields = value.value
    if conversation_key(fields) is None:
        close_key = nearest("messages", list(fields))
        hint = f"; rename {close_key!r}" if close_key else ""
        raise Flaw(f"no key 'messages' (found {', '.join(map(repr, fields)) or 'no keys'}){hint}")
    return unify(fields)


def _row(fields: Mapping[str, Any], number: str, where: str, find: Find) -> DialogueRow:
    messages = _messages(fields["messages"], find)
    return DialogueRow(
        id=optional_text("id", fields.get("id")) or number,
        task=optional_text("task", fields.get("task")) or ANY_TASK,
        messages=messages,
        split=read_split(fields.get("split")),
        where=where,
        rejected=_rejected(fields.get("rejected"), messages[-1]),
    )


def _rejected(value: object, better: MessageRow) -> str | None:
    """The worse reply of a row, if it has one."""
    if value is None:
        return None
    if (text := require_text("rejected", value)) in better.parts:
        raise Flaw("the rejected reply is the last answer itself")
    return text


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
