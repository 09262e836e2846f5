"""TinyWorld's dialogues, about its scenes, spoken by its voices."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from omnictl.config.split import SPLITS, Split
from omnictl.data.dialogues.chat_template import Dialogue, Media, Message, Part
from omnictl.data.dialogues.corpus import DialogueDataConfig, ImageCollection, Pixels
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import tinyworld_name
from omnictl.data.speech.corpus import BLOCK, Recording, Samples, SpeechCorpus
from omnictl.data.speech.tinyworld import record_speech
from omnictl.data.speech.transcripts.transcript import normalise
from omnictl.errors import DataError
from omnictl.tinyworld.dialogues import SPOKEN_TASKS, TASKS, Exchange, dialogue, spoken_answer
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import Scene, scene
from omnictl.tinyworld.speech.espeak import Request, speak
from omnictl.tinyworld.speech.utterances import Utterance
from omnictl.tinyworld.topics.images import sort_by_place

NUM_EVAL_SCENES = 1_000
"""Scenes that validation and test dialogues of TinyWorld talk about."""

PAUSES = 0.3
"""Share of the words before which an imitated recording has a feature of nothing."""

MANY = 1_000_000
"""Training dialogues of a task that needs no audio of its own."""


class TinyWorldDialogues:
    """Dialogues drawn from TinyWorld, about its scenes, spoken by its voices."""

    generated = True
    broken: Sequence[BrokenRow] = ()
    kinds: frozenset[MediaKind] = frozenset({"image", "audio"})

    def __init__(self, seed: int, counts: Mapping[Split, Mapping[str, int]], num_images: int) -> None:
        self.seed, self._counts, self._num_images = seed, counts, num_images

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
        """`num` training dialogues, and `num_eval` of each other split, over all tasks in turn."""
        few = _in_turn(num_eval)
        return cls(seed, {"train": _in_turn(num), "val": few, "test": few}, DialogueDataConfig().num_pictures)

    @property
    def name(self) -> str:
        """The value of `data.source` that draws it again."""
        return tinyworld_name(self.seed)

    @cached_property
    def audio(self) -> SpeechCorpus:
        """All recordings of the dialogues. Their texts may be unknown, and are not used."""
        return TinyWorldAudio(self)

    def images(self, split: Split) -> ImageCollection:
        """All images of a split."""
        return TinyWorldScenes(self.seed, split, self.num_images(split))

    def tasks(self, split: Split) -> Mapping[str, int]:
        """How many dialogues of each task there are."""
        return self._counts[split]

    def dialogue(self, split: Split, task: str, number: int) -> Dialogue:
        """One of them."""
        exchanges = self.exchanges(split, task, number)
        messages: list[Message] = []
        for exchange in exchanges:
            parts: list[Part] = [Media("image", image) for image in exchange.images]
            if exchange.spoken is not None:
                parts.append(Media("audio", self._first_audio(split, task) + number))
            messages.append(Message("user", (*parts, *([exchange.text] if exchange.text else []))))
            messages.append(Message("assistant", (exchange.answer,)))
        where = f"{self.name}/{split}/{task}/{number}"
        return Dialogue(f"{split}/{task}/{number}", task, tuple(messages), where)

    def words(self, split: Split, media: Media) -> Sequence[tuple[str, ...]]:
        """What an image shows, place by place, or a recording says, with a few empty features between."""
        rng = np.random.default_rng(media.number)
        if media.kind == "audio":
            return _spoken_words(self._utterance(split, media.number), rng)
        return _shown_words(scene(self.seed, split, media.number), rng)

    def _utterance(self, split: Split, audio: int) -> Utterance:
        """What is said in one of the recordings, by its number."""
        task, number = next(
            (task, audio - self._first_audio(split, task))
            for task in reversed(SPOKEN_TASKS)
            if task in self.tasks(split) and audio >= self._first_audio(split, task)
        )
        spoken = self.exchanges(split, task, number)[-1].spoken
        assert spoken is not None, f"{task} is a spoken task"
        return spoken

    def files(self, split: Split, kind: MediaKind) -> Sequence[Path]:  # noqa: ARG002
        """The files of a kind of media of a split, by number; none of what is made when it is asked for."""
        return ()

    def file(self, split: Split, media: Media) -> Path | None:  # noqa: ARG002
        """None: nothing of TinyWorld is a file."""
        return None

    def exchanges(self, split: Split, task: str, number: int) -> tuple[Exchange, ...]:
        """A dialogue as the world has it."""
        return dialogue(self.seed, split, task, number, images=self.num_images(split))

    def spoken_answer(self, split: Split, task: str, number: int) -> Utterance:
        """The last answer of a dialogue, as it is said."""
        return spoken_answer(self.seed, split, task, number, self.exchanges(split, task, number)[-1].answer)

    def utterances(self, split: Split) -> tuple[Utterance, ...]:
        """The utterances of a split, by the number of their recording."""
        counts = self.tasks(split)
        exchanges = (
            self.exchanges(split, task, number)[-1].spoken for task in SPOKEN_TASKS for number in range(counts.get(task, 0))
        )
        return tuple(utterance for utterance in exchanges if utterance is not None)

    def num_images(self, split: Split) -> int:
        """How many scenes the dialogues of a split are about."""
        return self._num_images if split == "train" else min(self._num_images, NUM_EVAL_SCENES)

    def _first_audio(self, split: Split, task: str) -> int:
        counts = self.tasks(split)
        return sum(counts.get(other, 0) for other in SPOKEN_TASKS[: SPOKEN_TASKS.index(task)])


def _shown_words(shown: Scene, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Of each shape, from the top left on, one to three features with all its facts; before each up to two of the ground."""
    features: list[tuple[str, ...]] = []
    for item in sort_by_place(figure.item for figure in shown.figures):
        features += [()] * int(rng.integers(3))
        features += [tuple(shown.facts(item).values())] * int(rng.integers(1, 4 if item.size == "big" else 3))
    return features + [()] * int(rng.integers(3))


def _spoken_words(said: Utterance, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Of each word one to three features, and sometimes one of nothing before it."""
    features: list[tuple[str, ...]] = []
    for word in normalise(said.text).split():
        features += [()] * int(rng.random() < PAUSES)
        features += [(word,)] * int(rng.integers(1, 4))
    return features or [()]


def _in_turn(total: int) -> dict[str, int]:
    """`total` dialogues over the tasks that have any: the first of each task, the second of each, and so on."""
    counts = {task: (total - place - 1) // len(TASKS) + 1 for place, task in enumerate(TASKS)}
    return {task: count for task, count in counts.items() if count}


class TinyWorldAudio:
    """The recordings of TinyWorld's dialogues, spoken block by block like its speech."""

    broken: Sequence[BrokenRow] = ()

    def __init__(self, corpus: TinyWorldDialogues) -> None:
        self._corpus, self.name = corpus, corpus.name
        self._utterances = lru_cache(maxsize=len(SPLITS))(corpus.utterances)

    @cached_property
    def fingerprint(self) -> str:
        """Over what is said in all splits."""
        return hashlib.sha256(repr([self._utterances(split) for split in SPLITS]).encode()).hexdigest()

    def recordings(self, split: Split) -> Sequence[Recording]:
        """The utterances of a split in a fixed order."""
        return [
            Recording(f"{split}/{number}", plan.text, plan.voice, f"{self.name}/{split}/{number}", None)
            for number, plan in enumerate(self._utterances(split))
        ]

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """The samples of a split's utterances from `block · BLOCK` on, up to `BLOCK` of them: `(n,)` mono at `rate` Hz."""
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
class TinyWorldScenes:
    """Scenes of TinyWorld."""

    seed: int
    split: Split
    count: int

    def __len__(self) -> int:
        return self.count

    @cached_property
    def fingerprint(self) -> str:
        """Over how many there are and how the first ones look."""
        arguments = f"WorldPictures(seed={self.seed!r}, split={self.split!r}, count={self.count!r})"  # as old caches know it
        digest = hashlib.sha256(arguments.encode())
        for number in range(min(self.count, 20)):
            digest.update(self.image(number, 64).tobytes())
        return digest.hexdigest()

    def image(self, number: int, size: int) -> Pixels:
        """`(3, size, size)` RGB."""
        return draw(scene(self.seed, self.split, number), size).image
