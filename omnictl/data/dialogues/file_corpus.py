"""Dialogues in a user's JSONL, with their images and recordings in files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.data.audio.decoder import read_audio
from omnictl.data.dialogues.chat_template import Dialogue, Media, Message, Part
from omnictl.data.dialogues.corpus import DialogueDataConfig, ImageCollection, Pixels
from omnictl.data.dialogues.manifest import DialogueManifest, DialogueRow, MediaFile, MessageRow
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.images.file_corpus import load_image
from omnictl.data.images.files.broken_images import find_broken_images
from omnictl.data.manifest.contents import fingerprint_rows
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.speech.corpus import BLOCK, Recording, Samples, SpeechCorpus
from omnictl.errors import DataError


class DialogueFiles:
    """Dialogues in JSONL, their images and recordings in files."""

    generated = False

    def __init__(self, manifest: DialogueManifest, config: DialogueDataConfig, cache: Path) -> None:
        self._folder, self._max_seconds = manifest.folder, config.max_seconds
        flaws = find_broken_images([media.file for row in manifest.rows for media in row.media if media.kind == "image"], cache)
        reasons = {row.id: flaws[media.file] for row in manifest.rows for media in row.media if media.file in flaws}
        unreadable = [BrokenRow(row.id, row.where, reasons[row.id]) for row in manifest.rows if row.id in reasons]
        self.broken: Sequence[BrokenRow] = (*manifest.broken, *unreadable)
        self.kinds: frozenset[MediaKind] = frozenset(media.kind for row in manifest.rows for media in row.media)
        splits = fill_splits(manifest.rows, val_fraction=config.val_fraction, test_fraction=config.test_fraction)
        # Only then set aside: a file that breaks must not move others from one split to another.
        self._splits = {split: _SplitRows.of(tuple(row for row in rows if row.id not in reasons)) for split, rows in splits.items()}

    @property
    def name(self) -> str:
        """Its folder."""
        return str(self._folder)

    @cached_property
    def contents_fingerprint(self) -> str:
        """SHA-256 over what is said in all dialogues, the sizes of their media, and how they are split."""
        rows = ((split, row) for split, rows in self._splits.items() for members in rows.tasks.values() for row in members)
        return fingerprint_rows((split, (row.id, row.task, row.rejected, *map(_content, row.messages))) for split, row in rows)

    @cached_property
    def audio(self) -> SpeechCorpus:
        """All recordings of the dialogues. Their texts may be unknown, and are not used."""
        files: Mapping[Split, tuple[Path, ...]] = {split: rows.files["audio"] for split, rows in self._splits.items()}
        return AudioFileCorpus(self.name, files, self._max_seconds)

    def images(self, split: Split) -> ImageCollection:
        """All images of a split."""
        return ImageFileCollection(self._splits[split].files["image"])

    def tasks(self, split: Split) -> Mapping[str, int]:
        """How many dialogues of each task there are."""
        return {task: len(rows) for task, rows in self._splits[split].tasks.items()}

    def dialogue(self, split: Split, task: str, number: int) -> Dialogue:
        """One of them."""
        split_rows = self._splits[split]
        row = split_rows.tasks[task][number]
        messages = tuple(Message(message.role, tuple(map(split_rows.part, message.parts))) for message in row.messages)
        return Dialogue(row.id, task, messages, row.where, row.rejected)

    def words(self, split: Split, media: Media) -> Sequence[tuple[str, ...]] | None:  # noqa: ARG002
        """Nobody knows."""
        return None

    def files(self, split: Split, kind: MediaKind) -> Sequence[Path]:
        """The files of a kind of media of a split, by number; none of what is made when it is asked for."""
        return self._splits[split].files[kind]

    def file(self, split: Split, media: Media) -> Path | None:
        """Where an image or a recording lies, if it is a file."""
        return self._splits[split].files[media.kind][media.number]


def _content(message: MessageRow) -> tuple[object, ...]:
    """What one side says, media by their sizes."""
    parts = (part if isinstance(part, str) else (part.kind, part.file.stat().st_size) for part in message.parts)
    return message.role, *parts


class _SplitRows(NamedTuple):
    """The rows of a split by task, and the files they name, each once."""

    tasks: Mapping[str, tuple[DialogueRow, ...]]
    files: Mapping[MediaKind, tuple[Path, ...]]
    numbers: Mapping[MediaFile, int]

    @classmethod
    def of(cls, rows: Sequence[DialogueRow]) -> "_SplitRows":
        media = list(dict.fromkeys(media for row in rows for media in row.media))
        by_kind = {kind: [file for file in media if file.kind == kind] for kind in MODALITIES}
        return cls(
            tasks={task: tuple(row for row in rows if row.task == task) for task in dict.fromkeys(row.task for row in rows)},
            files={kind: tuple(file.file for file in files) for kind, files in by_kind.items()},
            numbers={file: number for files in by_kind.values() for number, file in enumerate(files)},
        )

    def part(self, part: str | MediaFile) -> Part:
        """A part of a message, its file by number."""
        return part if isinstance(part, str) else Media(part.kind, self.numbers[part])


@dataclass(frozen=True)
class ImageFileCollection:
    """Image files in order."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """Over size and time of every file."""
        return _files_fingerprint(self.files)

    def image(self, number: int, size: int) -> Pixels:
        """`(3, size, size)` RGB."""
        return load_image(self.files[number], size)


@dataclass(frozen=True)
class AudioFileCorpus:
    """Audio files of each split, in order."""

    name: str
    files: Mapping[Split, tuple[Path, ...]]
    max_seconds: float
    broken: Sequence[BrokenRow] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Over size and time of every file."""
        return "-".join([repr(self.max_seconds), *(_files_fingerprint(self.files[split]) for split in SPLITS)])

    def recordings(self, split: Split) -> Sequence[Recording]:
        """The utterances of a split in a fixed order; nothing is known of what is said."""
        return [Recording(str(file), "", None, str(file), file) for file in self.files[split]]

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """The samples of a split's utterances from `block · BLOCK` on, up to `BLOCK` of them: `(n,)` mono at `rate` Hz."""
        for file in self.files[split][block * BLOCK : (block + 1) * BLOCK]:
            try:
                yield read_audio(file, rate=rate, max_seconds=self.max_seconds)
            except DataError as error:
                yield error


def _files_fingerprint(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(repr((str(file), stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()
