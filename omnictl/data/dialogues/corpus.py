"""Corpora of dialogues: TinyWorld's, or one's own in JSONL, in three splits and by task, with their pictures and sounds.

Pictures and sounds of a split are numbered; encoders see and hear all of them once, in that order.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from omnictl.config.base import Config
from omnictl.config.split import SPLITS, Split
from omnictl.data.audio.files import read_audio
from omnictl.data.dialogues.chat_template import Dialogue, Media, MediaKind, Message, Part
from omnictl.data.dialogues.manifest import DialogueManifest, DialogueRow, MediaFile, read_dialogues
from omnictl.data.images.augmentation import prepare
from omnictl.data.images.corpus import FINER
from omnictl.data.images.file_checks import verdicts
from omnictl.data.images.files import read_image
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.speech.corpus import BLOCK, Recording, Samples, SpeechCorpus, record_speech
from omnictl.data.text.corpus import TINYWORLD_SEED, tinyworld_seed
from omnictl.errors import DataError
from omnictl.tinyworld.dialogues import SPOKEN_TASKS, TASKS, Exchange, dialogue, spoken_answer
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import scene
from omnictl.tinyworld.speech.espeak import Request, speak
from omnictl.tinyworld.speech.utterances import Utterance

Pixels = NDArray[np.uint8]

EVALUATION_PICTURES = 1_000
"""Scenes that validation and test dialogues of TinyWorld talk about."""

MANY = 1_000_000
"""Training dialogues of a task that needs no sound of its own."""


class DialogueDataConfig(Config):
    """Which dialogues, how they are mixed, and how they are split."""

    source: str = "tinyworld"
    """A `.jsonl` file of dialogues, a folder with one, `tinyworld`, or `tinyworld:SEED` for another draw."""
    counts: dict[str, int] = Field(
        {"spoken": 4_000, "spoken_image": 6_000, "transcribe": 6_000},
        description="of TinyWorld, the different training dialogues of a task; a million of those that are not named",
    )
    weights: dict[str, float] = Field(
        {}, description="how often each task is drawn, in proportion; none: as many dialogues as it has, TinyWorld's all alike"
    )
    num_pictures: int = Field(20_000, ge=1, description="of TinyWorld, different scenes that training dialogues talk about")
    num_eval_dialogues: int = Field(400, ge=1, description="of TinyWorld, test dialogues of each task; a quarter for validation")
    replay: float = Field(
        0.15, ge=0, lt=1, description="share of the examples that are documents of the Thinker's own text, which it would forget"
    )
    val_fraction: float | None = Field(None, ge=0, lt=1)
    """Of files: the share validated on. Without it 0.05, unless rows name their split."""
    test_fraction: float | None = Field(None, ge=0, lt=1)
    """Of files: the share kept for the test. Without it 0.05, or none if rows name their split."""
    max_seconds: float = Field(30.0, gt=0, description="longer sounds are set aside")
    max_broken: float = Field(0.05, ge=0, le=1, description="share of rows that may be set aside before training refuses")


class Pictures(Protocol):
    """The pictures of a split."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what they show."""
        ...

    def __len__(self) -> int: ...

    def picture(self, number: int, size: int) -> Pixels:
        """`(3, size, size)` RGB.

        Raises:
            DataError: it cannot be read.
        """
        ...


class DialogueCorpus(Protocol):
    """Dialogues in splits, by task."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def generated(self) -> bool:
        """Whether its dialogues are made to be usable, and need no check."""
        ...

    @property
    def kinds(self) -> frozenset[MediaKind]:
        """What its dialogues have besides text."""
        ...

    @property
    def broken(self) -> Sequence[BrokenRow]:
        """Rows that cannot be used, whatever their split."""
        ...

    @property
    def sounds(self) -> SpeechCorpus:
        """All sounds; their texts are not known to everybody, and not asked for."""
        ...

    def pictures(self, split: Split) -> Pictures:
        """All pictures of a split."""
        ...

    def tasks(self, split: Split) -> Mapping[str, int]:
        """How many dialogues of each task there are."""
        ...

    def dialogue(self, split: Split, task: str, number: int) -> Dialogue:
        """One of them."""
        ...

    def file(self, split: Split, media: Media) -> Path | None:
        """Where a picture or a sound lies, if it is a file."""
        ...


def open_dialogues(config: DialogueDataConfig, cache: Path) -> DialogueCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldDialogues.of(seed, config)
    return DialogueFiles(read_dialogues(Path(config.source).expanduser()), config, cache)


class TinyWorldDialogues:
    """Dialogues drawn from TinyWorld, about its scenes, spoken by its voices."""

    generated = True
    broken: Sequence[BrokenRow] = ()
    kinds: frozenset[MediaKind] = frozenset({"image", "audio"})

    def __init__(self, seed: int, counts: Mapping[Split, Mapping[str, int]], num_pictures: int) -> None:
        self.seed, self._counts, self._num_pictures = seed, counts, num_pictures

    @classmethod
    def of(cls, seed: int, config: DialogueDataConfig) -> "TinyWorldDialogues":
        """As many of each task as a config says.

        Raises:
            DataError: it names a task that there is not.
        """
        unknown = sorted(set(config.counts) - set(TASKS))
        if unknown:
            raise DataError(
                f"TinyWorld has no task {unknown[0]!r}", where="data.counts", fix=f"name some of these: {', '.join(TASKS)}"
            )
        few = config.num_eval_dialogues
        counts: Mapping[Split, Mapping[str, int]] = {
            "train": {task: config.counts.get(task, MANY) for task in TASKS},
            "val": dict.fromkeys(TASKS, max(1, few // 4)),
            "test": dict.fromkeys(TASKS, few),
        }
        return cls(seed, counts, config.num_pictures)

    @classmethod
    def few(cls, seed: int, num: int, num_eval: int) -> "TinyWorldDialogues":
        """So many dialogues of the training split, and of each other one, over all tasks in turn."""
        few = _in_turn(num_eval)
        return cls(seed, {"train": _in_turn(num), "val": few, "test": few}, DialogueDataConfig().num_pictures)

    @property
    def name(self) -> str:
        """The source that draws it again."""
        return "tinyworld" if self.seed == TINYWORLD_SEED else f"tinyworld:{self.seed}"

    @cached_property
    def sounds(self) -> SpeechCorpus:
        """See `DialogueCorpus`."""
        return WorldSounds(self)

    def pictures(self, split: Split) -> Pictures:
        """See `DialogueCorpus`."""
        return WorldPictures(self.seed, split, self.num_pictures(split))

    def tasks(self, split: Split) -> Mapping[str, int]:
        """See `DialogueCorpus`."""
        return self._counts[split]

    def dialogue(self, split: Split, task: str, number: int) -> Dialogue:
        """See `DialogueCorpus`."""
        exchanges = self.exchanges(split, task, number)
        messages: list[Message] = []
        for exchange in exchanges:
            parts: list[Part] = [Media("image", picture) for picture in exchange.pictures]
            if exchange.spoken is not None:
                parts.append(Media("audio", self._first_sound(split, task) + number))
            messages.append(Message("user", (*parts, *([exchange.text] if exchange.text else []))))
            messages.append(Message("assistant", (exchange.answer,)))
        where = f"{self.name}/{split}/{task}/{number}"
        return Dialogue(f"{split}/{task}/{number}", task, tuple(messages), where)

    def file(self, split: Split, media: Media) -> Path | None:  # noqa: ARG002
        """See `DialogueCorpus`; nothing is."""
        return None

    def exchanges(self, split: Split, task: str, number: int) -> tuple[Exchange, ...]:
        """A dialogue as the world has it."""
        return dialogue(self.seed, split, task, number, pictures=self.num_pictures(split))

    def spoken_answer(self, split: Split, task: str, number: int) -> Utterance:
        """The last answer of a dialogue, as it is said."""
        return spoken_answer(self.seed, split, task, number, self.exchanges(split, task, number)[-1].answer)

    def utterances(self, split: Split) -> tuple[Utterance, ...]:
        """What is record_speech, by the number of the sound."""
        counts = self.tasks(split)
        found = (self.exchanges(split, task, number)[-1].spoken for task in SPOKEN_TASKS for number in range(counts.get(task, 0)))
        return tuple(utterance for utterance in found if utterance is not None)

    def num_pictures(self, split: Split) -> int:
        """How many scenes are talked about."""
        return self._num_pictures if split == "train" else min(self._num_pictures, EVALUATION_PICTURES)

    def _first_sound(self, split: Split, task: str) -> int:
        counts = self.tasks(split)
        return sum(counts.get(other, 0) for other in SPOKEN_TASKS[: SPOKEN_TASKS.index(task)])


def _in_turn(total: int) -> dict[str, int]:
    """So many dialogues over all tasks, those that have some: the first of each task, the second of each, and so on."""
    counts = {task: (total - place - 1) // len(TASKS) + 1 for place, task in enumerate(TASKS)}
    return {task: count for task, count in counts.items() if count}


class WorldSounds:
    """The sounds of TinyWorld's dialogues, spoken in blocks as `speech` has it."""

    broken: Sequence[BrokenRow] = ()

    def __init__(self, corpus: TinyWorldDialogues) -> None:
        self._corpus, self.name = corpus, corpus.name
        self._utterances = lru_cache(maxsize=len(SPLITS))(corpus.utterances)

    @cached_property
    def fingerprint(self) -> str:
        """Over what is said in all splits."""
        return hashlib.sha256(repr([self._utterances(split) for split in SPLITS]).encode()).hexdigest()

    def recordings(self, split: Split) -> Sequence[Recording]:
        """See `SpeechCorpus`."""
        return [
            Recording(f"{split}/{number}", plan.text, plan.voice, f"{self.name}/{split}/{number}", None)
            for number, plan in enumerate(self._utterances(split))
        ]

    def sounds(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """See `SpeechCorpus`."""
        return say(self._utterances(split)[block * BLOCK : (block + 1) * BLOCK], rate)


def say(plans: Sequence[Utterance], rate: int) -> Iterator[Samples]:
    """A block of utterances, as one fresh process says them and as they are recorded at `rate` Hz.

    Raises:
        DataError: espeak-ng cannot run here.
    """
    spoken = speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans])
    for plan, samples in zip(plans, spoken.samples, strict=True):
        yield record_speech(plan, samples, spoken.rate, rate)


@dataclass(frozen=True)
class WorldPictures:
    """Scenes of TinyWorld."""

    seed: int
    split: Split
    count: int

    def __len__(self) -> int:
        return self.count

    @cached_property
    def fingerprint(self) -> str:
        """Over how many there are and how the first ones look."""
        digest = hashlib.sha256(repr(self).encode())
        for number in range(min(self.count, 20)):
            digest.update(self.picture(number, 64).tobytes())
        return digest.hexdigest()

    def picture(self, number: int, size: int) -> Pixels:
        """See `Pictures`."""
        return draw(scene(self.seed, self.split, number), size).picture


class DialogueFiles:
    """Dialogues in JSONL, their pictures and sounds in files."""

    generated = False

    def __init__(self, manifest: DialogueManifest, config: DialogueDataConfig, cache: Path) -> None:
        self._folder, self._max_seconds = manifest.folder, config.max_seconds
        flaws = verdicts([media.file for row in manifest.rows for media in row.media if media.kind == "image"], cache)
        reasons = {row.id: flaws[media.file] for row in manifest.rows for media in row.media if media.file in flaws}
        unreadable = [BrokenRow(row.id, row.where, reasons[row.id]) for row in manifest.rows if row.id in reasons]
        self.broken: Sequence[BrokenRow] = (*manifest.broken, *unreadable)
        self.kinds: frozenset[MediaKind] = frozenset(media.kind for row in manifest.rows for media in row.media)
        named = {row.id: row.split for row in manifest.rows}
        splits = fill_splits(manifest.rows, named, val_fraction=config.val_fraction, test_fraction=config.test_fraction)
        # Only then set aside: a file that breaks must not move others from one split to another.
        self._splits = {split: _SplitRows.of(tuple(row for row in rows if row.id not in reasons)) for split, rows in splits.items()}

    @property
    def name(self) -> str:
        """Its folder."""
        return str(self._folder)

    @cached_property
    def sounds(self) -> SpeechCorpus:
        """See `DialogueCorpus`."""
        files: Mapping[Split, tuple[Path, ...]] = {split: found.files["audio"] for split, found in self._splits.items()}
        return SoundFiles(self.name, files, self._max_seconds)

    def pictures(self, split: Split) -> Pictures:
        """See `DialogueCorpus`."""
        return PictureFiles(self._splits[split].files["image"])

    def tasks(self, split: Split) -> Mapping[str, int]:
        """See `DialogueCorpus`."""
        return {task: len(rows) for task, rows in self._splits[split].tasks.items()}

    def dialogue(self, split: Split, task: str, number: int) -> Dialogue:
        """See `DialogueCorpus`."""
        found = self._splits[split]
        row = found.tasks[task][number]
        messages = tuple(Message(message.role, tuple(map(found.part, message.parts))) for message in row.messages)
        return Dialogue(row.id, task, messages, row.where)

    def file(self, split: Split, media: Media) -> Path | None:
        """See `DialogueCorpus`."""
        return self._splits[split].files[media.kind][media.number]


class _SplitRows(NamedTuple):
    """The rows of a split by task, and the files they name, each once."""

    tasks: Mapping[str, tuple[DialogueRow, ...]]
    files: Mapping[MediaKind, tuple[Path, ...]]
    numbers: Mapping[MediaFile, int]

    @classmethod
    def of(cls, rows: Sequence[DialogueRow]) -> "_SplitRows":
        media = list(dict.fromkeys(media for row in rows for media in row.media))
        kinds: tuple[MediaKind, ...] = ("image", "audio")
        by_kind = {kind: [each for each in media if each.kind == kind] for kind in kinds}
        return cls(
            tasks={task: tuple(row for row in rows if row.task == task) for task in dict.fromkeys(row.task for row in rows)},
            files={kind: tuple(each.file for each in found) for kind, found in by_kind.items()},
            numbers={each: number for found in by_kind.values() for number, each in enumerate(found)},
        )

    def part(self, part: str | MediaFile) -> Part:
        """A part of a message, its file by number."""
        return part if isinstance(part, str) else Media(part.kind, self.numbers[part])


@dataclass(frozen=True)
class PictureFiles:
    """Picture files in order."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """Over size and time of every file."""
        return _files_fingerprint(self.files)

    def picture(self, number: int, size: int) -> Pixels:
        """See `Pictures`."""
        return load_picture(self.files[number], size)


@dataclass(frozen=True)
class SoundFiles:
    """Sound files of each split in order."""

    name: str
    files: Mapping[Split, tuple[Path, ...]]
    max_seconds: float
    broken: Sequence[BrokenRow] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Over size and time of every file."""
        return "-".join([repr(self.max_seconds), *(_files_fingerprint(self.files[split]) for split in SPLITS)])

    def recordings(self, split: Split) -> Sequence[Recording]:
        """See `SpeechCorpus`; nothing is known of what is said."""
        return [Recording(str(file), "", None, str(file), file) for file in self.files[split]]

    def sounds(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """See `SpeechCorpus`."""
        for file in self.files[split][block * BLOCK : (block + 1) * BLOCK]:
            try:
                yield read_audio(file, rate=rate, max_seconds=self.max_seconds)
            except DataError as error:
                yield error


def load_picture(file: Path, size: int) -> Pixels:
    """`(3, size, size)` RGB: the central square of a picture file.

    Raises:
        DataError: it cannot be read.
    """
    return np.asarray(prepare(read_image(file, shorter=FINER * size), size, crop=1.0))


def _files_fingerprint(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        found = file.stat()
        digest.update(repr((str(file), found.st_size, found.st_mtime_ns)).encode())
    return digest.hexdigest()
