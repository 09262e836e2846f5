"""Batches of dialogues with their images and recordings, and of replayed text, in an order that is a function of the seed and the
position alone.

Short examples stand behind one another in a row and do not see each other, so hardly anything is padding. What is drawn at a
position does not depend on how a batch is split.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from omnictl.data.dialogues.chat_template import ChatTemplate, Dialogue, Tokens, compute_positions, strip_media
from omnictl.data.dialogues.examples import DialogueSet, Example, encode_dialogue, encode_end, encode_pair
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.data.text.token_store import TokenStore, open_store
from omnictl.data.text.tokenizer import PAD, Tokenizer
from omnictl.errors import DataError
from omnictl.nn.losses.cross_entropy import IGNORE

ROW = 256
"""Positions of a row, if the context is so long and no example is longer; a longer one is a multiple of `STEP` long."""

STEP = 64

NUM_SCANNED = 2000
"""Examples among which the longest ones are looked for."""

PAIRS = 64
"""Pairs of a batch that is only judged."""

MAX_DRAWS = 100
"""Generated dialogues drawn in a row until one fits into the context."""


@dataclass(frozen=True)
class DialogueBatch:
    """Examples packed one after another into rows."""

    tokens: Tensor
    """(B, T) int64"""
    targets: Tensor
    """(B, T) int64, `IGNORE` where nothing is to be predicted"""
    segments: Tensor
    """(B, T) int32, the number of the example that a position belongs to, -1 where padded"""
    positions: Tensor | None
    """(B, T, 3) int64, if the model wants them"""
    media: Mapping[MediaKind, tuple[Any, ...]]
    """Values of the images and recordings in the order of their placeholders, row by row"""
    lengths: Tensor
    """(examples,) int64"""
    num_targets: int
    projectors_only: bool
    """Whether nothing but the projectors is to learn from it"""
    imitates: bool
    """Whether media are `WordFeatures`, which no projector reads"""

    @property
    def target_shares(self) -> Tensor:
        """`(B, T)` fp32 targets a position of the example that a position belongs to; anything where padded."""
        targets = torch.bincount(self.segments[self.targets != IGNORE], minlength=len(self.lengths))
        return (targets / self.lengths)[self.segments]


class Mixture(NamedTuple):
    """What batches are made of."""

    weights: Mapping[str, float]
    """How often each task is drawn, in proportion."""
    replay: float
    """Share of the examples that are texts."""

    def task(self, share: float) -> str:
        """The task at a share, from 0 to 1, of all weights one after the other."""
        shares = np.cumsum(list(self.weights.values())) / sum(self.weights.values())
        return tuple(self.weights)[min(int(np.searchsorted(shares, share, side="right")), len(shares) - 1)]


def open_replayed_text(data: TextDataConfig, tokenizer: Tokenizer, cache: Path) -> TokenStore:
    """The training split of the text that a Thinker was trained on.

    Raises:
        DataError: it is not there any more.
    """
    try:
        return open_store(open_corpus(data), "train", tokenizer, cache)
    except DataError as error:
        raise DataError(
            f"the text that the Thinker was trained on is to be replayed: {error.message}",
            where="data.replay",
            fix="bring it back, or do without: --set data.replay=0",
        ) from error


HALF = 0.5
"""Share of the dialogues of an exercise that are of few ones, read again and again."""


class Exercise(NamedTuple):
    """Some of the first examples, without the encoders' features (`imitated_media`)."""

    features: MediaFeatures | None
    """What stands for images and recordings; None: nothing, only texts are kept."""
    mixture: Mixture
    examples: int
    turns: int | None = None
    """What follows so many questions and answers is left out; None: nothing is."""
    few: int | None = None
    """Half of the dialogues are of the first so many of their task; None: of all, as the other half."""
    find_learned: Callable[[str], int | None] | None = None
    """Where in a last answer the part begins that alone is learned; where it finds nothing, another dialogue is drawn. None: all
    answers are learned."""


class DialogueBatches:
    """The training order: at each position a task is drawn, and one of its dialogues, or a text.

    Args:
        dialogues: of the split.
        texts: to be replayed; None: none are.
        template: how dialogues are written down.
        features: of their images and recordings.
        mixture: of what batches are made.
        batch_size: examples of a batch.
        seed: of the order.
        context: positions that the model reads at once.
        warmup: examples of which only the projectors learn, after the exercises.
        placed: whether the model wants time-aware positions.
        exercises: the first examples, one exercise after the other.
        repeated: share of the examples for the whole model that are of the first exercise again.
    """

    def __init__(
        self,
        dialogues: DialogueSet,
        texts: TokenStore | None,
        template: ChatTemplate,
        features: MediaFeatures,
        mixture: Mixture,
        *,
        batch_size: int,
        seed: int,
        context: int,
        warmup: int,
        placed: bool,
        exercises: Sequence[Exercise] = (),
        repeated: float = 0.0,
    ) -> None:
        self.dialogues, self.texts, self.template, self.features = dialogues, texts, template, features
        self.exercises, self._repeated = exercises, repeated
        self.batch_size, self.seed, self.context, self.warmup, self.placed = batch_size, seed, context, warmup, placed
        self._mixture = mixture
        self._exercised = sum(exercise.examples for exercise in exercises)

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> DialogueBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        examples = [self.example(position) for position in ids]
        imitates = ids[0] < self._exercised
        batch = pack_examples(examples, self.context, placed=self.placed)
        return replace(batch, imitates=imitates, projectors_only=not imitates and ids[0] < self._whole_from)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each dialogue stands; of the Thinker's own text, that it is that."""
        return [self.example(position).where or "text of the Thinker" for position in ids]

    @property
    def _whole_from(self) -> int:
        """The first example that the whole model learns from."""
        return self._exercised + self.warmup

    @property
    def typical_step(self) -> int:
        """The first step in which the whole model learns: those before it take less."""
        return self._whole_from // self.batch_size

    def largest(self, size: int) -> Sequence[int]:
        """The longest of the first thousands of dialogues that the whole model learns from."""
        return self._longest_first[:size]

    @cached_property
    def _longest_first(self) -> Sequence[int]:
        lengths = {
            position: len(self.example(position).encoded.tokens)
            for position in range(self._whole_from, self._whole_from + NUM_SCANNED)
        }
        return sorted(lengths, key=lambda position: -lengths[position])

    def example(self, position: int) -> Example:
        """What stands at a position of the endless order."""
        rng = np.random.default_rng([self.seed, position])
        exercise = self._exercise(position, rng) or Exercise(self.features, self._mixture, 0)
        mixture = exercise.mixture
        if self.texts is not None and rng.random() < mixture.replay:
            return Example(_draw_text(self.texts, rng, self.context), None, "")
        for _ in range(MAX_DRAWS):
            task = mixture.task(rng.random())
            numbers = len(self.dialogues.numbers[task])
            if exercise.few and rng.random() < HALF:
                numbers = min(numbers, exercise.few)
            dialogue = self.dialogues.dialogue(task, int(rng.integers(numbers)))
            example = self._encode(dialogue, exercise)
            if example is not None and fit([example], self.context):
                return example
        raise _too_long(dialogue.where, self.context)

    def _exercise(self, position: int, rng: np.random.Generator) -> Exercise | None:
        """The exercise that an example belongs to: if it is one of the first, or repeats what was learned first."""
        start = 0
        for exercise in self.exercises:
            start += exercise.examples
            if position < start:
                return exercise
        repeats = self.exercises and position >= self._whole_from and rng.random() < self._repeated
        return self.exercises[0] if repeats else None

    def _encode(self, dialogue: Dialogue, exercise: Exercise) -> Example | None:
        """A dialogue as an exercise wants it, if it can be one."""
        messages = dialogue.messages if exercise.turns is None else dialogue.messages[: 2 * exercise.turns]
        dialogue = dialogue._replace(messages=messages if exercise.features else strip_media(messages))
        features = exercise.features or self.features
        if exercise.find_learned is None:
            return encode_dialogue(dialogue, self.template, features)
        (answer,) = messages[-1].parts
        start = exercise.find_learned(answer) if isinstance(answer, str) else None
        return None if start is None else encode_end(dialogue, start, self.template, features)


class PairBatches:
    """The training order of pairs: at each position a task is drawn, and one of its dialogues with two replies.

    Args:
        dialogues: of the split.
        template: how dialogues are written down.
        features: of their images and recordings.
        mixture: of what batches are made, no text among it.
        batch_size: pairs of a batch.
        seed: of the order.
        context: positions that the model reads at once.
        placed: whether the model wants time-aware positions.
    """

    typical_step = 0

    def __init__(
        self,
        dialogues: DialogueSet,
        template: ChatTemplate,
        features: MediaFeatures,
        mixture: Mixture,
        *,
        batch_size: int,
        seed: int,
        context: int,
        placed: bool,
    ) -> None:
        self.dialogues, self.template, self.features, self._mixture = dialogues, template, features, mixture
        self.batch_size, self.seed, self.context, self.placed = batch_size, seed, context, placed

    def ids(self, step: int) -> Sequence[int]:
        """The pairs of a step (0-based)."""
        return range(step * self.batch_size, (step + 1) * self.batch_size)

    def collate(self, ids: Sequence[int]) -> DialogueBatch:
        """A batch of these pairs, two examples each, the better reply first; a pure function of the ids."""
        return pack_examples([one for position in ids for one in self.pair(position)], self.context, placed=self.placed)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """Where each pair stands."""
        return [self.pair(position)[0].where for position in ids]

    def largest(self, size: int) -> Sequence[int]:
        """The longest of the first hundreds of pairs."""
        return self._longest_first[:size]

    @cached_property
    def _longest_first(self) -> Sequence[int]:
        return sorted(range(NUM_SCANNED // 2), key=lambda position: -sum(len(one.encoded.tokens) for one in self.pair(position)))

    def pair(self, position: int) -> tuple[Example, Example]:
        """What stands at a position of the endless order."""
        rng = np.random.default_rng([self.seed, position])
        for _ in range(MAX_DRAWS):
            task = self._mixture.task(rng.random())
            dialogue = self.dialogues.pair(task, int(rng.integers(len(self.dialogues.numbers[task]))))
            pair = encode_pair(dialogue, self.template, self.features)
            if fit(pair, self.context):
                return pair
        raise _too_long(dialogue.where, self.context)


def fit(examples: Iterable[Example], context: int) -> bool:
    """Whether each example can be read at once."""
    return all(len(example.encoded.tokens) <= context for example in examples)


def _too_long(where: str, context: int) -> DataError:
    return DataError(
        f"{MAX_DRAWS} dialogues in a row are longer than the Thinker's context of {context} positions",
        where=where,
        fix="train a Thinker with a longer one: omnictl pretrain --set model.context=512",
    )


def _draw_text(texts: TokenStore, rng: np.random.Generator, longest: int) -> Tokens:
    """Any document, or a piece of a long one, every token of it to be predicted from the one before."""
    number = int(rng.integers(texts.num_documents))
    start, stop = int(texts.bounds[number]), int(texts.bounds[number + 1])
    if stop - start > longest:
        start += int(rng.integers(stop - start - longest + 1))
        stop = start + longest
    return Tokens(texts.tokens[start - 1 : stop - 1].tolist(), texts.tokens[start:stop].tolist(), ())


def pack_examples(examples: Sequence[Example], context: int, *, placed: bool) -> DialogueBatch:
    """Examples as one batch.

    Raises:
        DataError: an image or a recording has not as many features as places were kept for it.
    """
    lengths = [len(example.encoded.tokens) for example in examples]
    assert max(lengths) <= context, f"an example of {max(lengths)} positions, context {context}"
    width = min(-(-max(ROW, *lengths) // STEP) * STEP, context)  # few different widths: new shapes cost time and memory
    rows = _fill_rows(lengths, width)
    shape = (len(rows), width)
    tokens, targets = np.full(shape, PAD, np.int64), np.full(shape, IGNORE, np.int64)
    segments, positions = np.full(shape, -1, np.int32), np.zeros((*shape, 3), np.int64)
    values: dict[MediaKind, list[Any]] = {}
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            encoded, features, where = examples[index]
            span = (number, slice(start, start + lengths[index]))
            tokens[span], targets[span], segments[span] = encoded.tokens, encoded.targets, index
            if features is not None:
                for media, value in features.values(encoded, where):
                    values.setdefault(media.kind, []).append(value)
            if placed:
                positions[span] = (
                    compute_positions(encoded, features.count, features.grids) if features else np.arange(lengths[index])[:, None]
                )
            start += lengths[index]
    return DialogueBatch(
        tokens=torch.from_numpy(tokens),
        targets=torch.from_numpy(targets),
        segments=torch.from_numpy(segments),
        positions=torch.from_numpy(positions) if placed else None,
        media={kind: tuple(arrays) for kind, arrays in values.items()},
        lengths=torch.tensor(lengths),
        num_targets=int((targets != IGNORE).sum()),
        projectors_only=False,
        imitates=False,
    )


def pack_pairs(
    dialogues: Iterable[Dialogue], template: ChatTemplate, features: MediaFeatures, context: int, *, placed: bool
) -> list[DialogueBatch]:
    """Dialogues with two replies as batches of up to `PAIRS` pairs; those of which a reply is too long for the context left out."""
    pairs = [encode_pair(dialogue, template, features) for dialogue in dialogues]
    readable = [pair for pair in pairs if fit(pair, context)]
    groups = (readable[start : start + PAIRS] for start in range(0, len(readable), PAIRS))
    return [pack_examples([one for pair in some for one in pair], context, placed=placed) for some in groups]


def _fill_rows(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples stand in which row: longest first, each into the first row with room."""
    rows: list[list[int]] = []
    rooms: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((number for number, room in enumerate(rooms) if room >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            rooms.append(width)
        rows[row].append(index)
        rooms[row] -= lengths[index]
    return rows
