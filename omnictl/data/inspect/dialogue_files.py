"""The dialogues of a source with what is known of their images and recordings: from headers, or from all pixels and samples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from omnictl.config.split import SPLITS, Split
from omnictl.data.dialogues.chat_template import Role
from omnictl.data.dialogues.manifest import DialogueRow, MediaFile, read_dialogues
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues
from omnictl.data.inspect.audio_files import AudioFile, speak_split
from omnictl.data.inspect.image_files import ImageFile, render_scene
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.manifest.thread_pool import measure_in_parallel
from omnictl.errors import DataError
from omnictl.progress import log_progress

DIALOGUES = 200
"""Of TinyWorld's of each split, over all tasks, that are made for a look at them."""

Facts = TypeVar("Facts")


class DialogueFacts(NamedTuple):
    """A dialogue whose images and recordings are there."""

    id: str
    where: str
    split: Split
    task: str
    roles: Sequence[Role]
    characters: int
    images: Mapping[str, ImageFile]
    """By path, or by place in TinyWorld; of one that is shown twice there is one."""
    recordings: Mapping[str, AudioFile]
    num_replies: int
    """Answers with a recording beside them that can be read."""


class DialogueSource(NamedTuple):
    """The dialogues of a source, after a look at their media."""

    seen: Sequence[DialogueFacts]
    unreadable: Sequence[tuple[MediaKind, BrokenRow]]
    """Rows with an image or a recording that cannot be read, and of which kind the first of these is."""
    broken_replies: Sequence[BrokenRow]
    """Rows with a spoken reply that cannot be read; they are trained on, for the reply's text."""
    broken: Sequence[BrokenRow]
    """Rows that cannot be used whatever their media."""


class Look(NamedTuple):
    """How files are looked at."""

    image: Callable[[Path], ImageFile]
    audio: Callable[[Path], AudioFile]


def look(source: str, limit: int | None, measures: Look, doing: str) -> DialogueSource:
    """Looks once at every image and every recording of the dialogues of a source.

    Args:
        source: a `.jsonl` file, a folder with one, or TinyWorld, whose dialogues have no files and are drawn and spoken.
        limit: at most this many rows of each split.
        measures: of a file, `probe` or `decode`.
        doing: what to call this in notes of progress: "checking".

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    seed = tinyworld_seed(source)
    if seed is not None:
        count = limit or DIALOGUES
        return DialogueSource(list(_make_dialogues(TinyWorldDialogues.few(seed, count, count))), (), (), ())
    manifest = read_dialogues(source_path(source))
    splits = fill_splits(manifest.rows)
    rows = [(split, row) for split in SPLITS for row in splits[split][:limit]]
    images = _measure((row for _, row in rows), "image", measures.image, f"{doing} images")
    recordings = _measure((row for _, row in rows), "audio", measures.audio, f"{doing} recordings")
    seen, unreadable = [], []
    for split, row in rows:
        flaw = _flaw(row, {**images, **recordings})
        if flaw is None:
            seen.append(_conversation(split, row, images, recordings))
        else:
            unreadable.append(flaw)
    return DialogueSource(
        seen, unreadable, [flaw for _, row in rows for flaw in _find_broken_replies(row, recordings)], manifest.broken
    )


def _measure(
    rows: Iterable[DialogueRow], kind: MediaKind, measure: Callable[[Path], Facts], doing: str
) -> dict[MediaFile, Facts | DataError]:
    """What is known of each file, spoken replies among the recordings; of some there are several rows."""
    files = list(dict.fromkeys(media for row in rows for media in (*row.media, *_replies(row)) if media.kind == kind))
    return dict(
        zip(files, log_progress(measure_in_parallel([media.file for media in files], measure), doing, len(files)), strict=True)
    )


def _replies(row: DialogueRow) -> Iterator[MediaFile]:
    return (media for message in row.messages for media in message.spoken)


def _flaw(row: DialogueRow, measured: Mapping[MediaFile, object]) -> tuple[MediaKind, BrokenRow] | None:
    errors = ((media.kind, measured[media]) for media in row.media)
    return next(((kind, BrokenRow(row.id, row.where, e.message)) for kind, e in errors if isinstance(e, DataError)), None)


def _find_broken_replies(row: DialogueRow, recordings: Mapping[MediaFile, AudioFile | DataError]) -> Iterator[BrokenRow]:
    for reply in _replies(row):
        error = recordings[reply]
        if isinstance(error, DataError):
            yield BrokenRow(row.id, row.where, error.message)


def _conversation(
    split: Split,
    row: DialogueRow,
    images: Mapping[MediaFile, ImageFile | DataError],
    recordings: Mapping[MediaFile, AudioFile | DataError],
) -> DialogueFacts:
    images_shown = {str(media.file): image for media in row.media if isinstance(image := images.get(media), ImageFile)}
    recordings_heard = {str(media.file): audio for media in row.media if isinstance(audio := recordings.get(media), AudioFile)}
    characters = sum(len(part) for message in row.messages for part in message.parts if isinstance(part, str))
    replies = sum(isinstance(recordings[reply], AudioFile) for reply in _replies(row))
    roles = [message.role for message in row.messages]
    return DialogueFacts(row.id, row.where, split, row.task, roles, characters, images_shown, recordings_heard, replies)


def _make_dialogues(world: TinyWorldDialogues) -> Iterator[DialogueFacts]:
    """Every dialogue of TinyWorld; nothing of it is in a file."""
    for split in SPLITS:
        spoken = list(speak_split(world.audio, split))
        places = [(task, number) for task, count in world.tasks(split).items() for number in range(count)]
        for task, number in log_progress(places, f"making dialogues of the {split} split", len(places)):
            dialogue = world.dialogue(split, task, number)
            images = [render_scene(world.seed, split, media.number) for media in dialogue.media if media.kind == "image"]
            recordings = {f"{split}/{m.number}": spoken[m.number] for m in dialogue.media if m.kind == "audio"}
            roles = [message.role for message in dialogue.messages]
            characters = sum(len(message.text) for message in dialogue.messages)
            images_by_name = {image.name: image for image in images}
            yield DialogueFacts(dialogue.id, dialogue.where, split, task, roles, characters, images_by_name, recordings, 0)
