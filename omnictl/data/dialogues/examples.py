"""A split of a corpus of dialogues to train on: those that can be used and fit into the context, as tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.data.dialogues.chat_template import ChatTemplate, Dialogue, Message, Tokens
from omnictl.data.dialogues.corpus import DialogueCorpus, DialogueDataConfig
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError
from omnictl.nn.losses.cross_entropy import IGNORE

NO_PAIR = 'no "rejected" reply beside the better one, which --objective dpo compares it with'

MAX_OTHERS = 100
"""Generated dialogues among which one with another answer is looked for."""


@dataclass(frozen=True)
class DialogueSet:
    """The usable dialogues of a split, by task."""

    corpus: DialogueCorpus
    split: Split
    numbers: Mapping[str, Sequence[int]]
    set_aside: tuple[BrokenRow, ...]

    def __len__(self) -> int:
        return sum(map(len, self.numbers.values()))

    def dialogue(self, task: str, index: int) -> Dialogue:
        """One of a task."""
        return self.corpus.dialogue(self.split, task, self.numbers[task][index])

    def pair(self, task: str, index: int) -> Dialogue:
        """One of a task, with a worse reply; where a generated corpus has none, that to another training dialogue of the task."""
        dialogue = self.dialogue(task, index)
        if dialogue.rejected is not None:
            return dialogue
        number, count = self.numbers[task][index], self.corpus.tasks("train")[task]
        others = (self.corpus.dialogue("train", task, (number + step) % count).answer for step in range(1, 1 + MAX_OTHERS))
        rejected = next((answer for answer in others if answer != dialogue.answer), None)
        if rejected is None:
            raise DataError(
                f"{MAX_OTHERS} dialogues of task {task!r} have the same answer, so there is no worse one",
                where=dialogue.where,
                fix=f"give more of them: --set data.counts.{task}=1000",
            )
        return dialogue._replace(rejected=rejected)

    def all(self) -> Iterator[Dialogue]:
        """Every dialogue, one of each task in turn."""
        return (self.dialogue(*place) for place in self._places())

    def all_pairs(self) -> Iterator[Dialogue]:
        """Those of them that have a worse reply, or of a generated corpus are given one."""
        has_pairs = self.corpus.generated
        return (self.pair(*place) for place in self._places() if has_pairs or self.dialogue(*place).rejected is not None)

    def _places(self) -> Iterator[tuple[str, int]]:
        longest = max(map(len, self.numbers.values()), default=0)
        return ((task, i) for i in range(longest) for task, indices in self.numbers.items() if i < len(indices))


def open_dialogue_set(
    corpus: DialogueCorpus, split: Split, template: ChatTemplate, features: MediaFeatures, context: int, *, pairs: bool = False
) -> DialogueSet:
    """The dialogues of a split whose recordings can be read and which fit into the context; endless ones are not checked yet.

    Args:
        corpus: whose dialogues.
        split: of it.
        template: how they are written down.
        features: of their media.
        context: positions that the model reads at once.
        pairs: whether each needs a worse reply, too.
    """
    tasks = corpus.tasks(split)
    if corpus.generated and split == "train":
        return DialogueSet(corpus, split, {task: range(number) for task, number in tasks.items()}, ())
    set_aside: list[BrokenRow] = []
    numbers: dict[str, list[int]] = {}
    for task, count in tasks.items():
        for number in range(count):
            dialogue = corpus.dialogue(split, task, number)
            missing = pairs and dialogue.rejected is None and not corpus.generated
            flaw = NO_PAIR if missing else _flaw(dialogue, template, features, context)
            if flaw is None:
                numbers.setdefault(task, []).append(number)
            else:
                set_aside.append(BrokenRow(dialogue.id, dialogue.where, flaw))
    return DialogueSet(corpus, split, numbers, tuple(set_aside))


def _flaw(dialogue: Dialogue, template: ChatTemplate, features: MediaFeatures, context: int) -> str | None:
    for media in dialogue.media:
        if (flaw := features.flaw(media)) is not None:
            return flaw
    replies = [dialogue] if dialogue.rejected is None else [dialogue, reject(dialogue)]
    length = max(len(template.dialogue(one.messages, features.count).tokens) for one in replies)
    if length > context:
        media_length = sum(map(features.count, dialogue.media))
        return f"the dialogue is {length} positions long, {media_length} of them images and recordings; the context has {context}"
    return None


class Example(NamedTuple):
    """A dialogue or a text, ready to be put beside others."""

    encoded: Tokens
    features: MediaFeatures | None
    """The features of its media; None of a text."""
    where: str


def encode_dialogue(dialogue: Dialogue, template: ChatTemplate, features: MediaFeatures) -> Example:
    """A dialogue as an example."""
    return Example(template.dialogue(dialogue.messages, features.count), features, dialogue.where)


def encode_last_answer(dialogue: Dialogue, template: ChatTemplate, features: MediaFeatures) -> Example:
    """A dialogue of which only the last answer is to be predicted."""
    encoded = template.dialogue(dialogue.messages, features.count)
    open_until = len(template.prompt(dialogue.messages[:-1], features.count).tokens) - 1
    targets = [IGNORE] * open_until + encoded.targets[open_until:]
    return Example(encoded._replace(targets=targets), features, dialogue.where)


def encode_pair(dialogue: Dialogue, template: ChatTemplate, features: MediaFeatures) -> tuple[Example, Example]:
    """A dialogue with its last answer, and with the worse reply; only these are to be predicted."""
    return encode_last_answer(dialogue, template, features), encode_last_answer(reject(dialogue), template, features)


def reject(dialogue: Dialogue) -> Dialogue:
    """A dialogue with the worse reply in the place of its last answer."""
    assert dialogue.rejected is not None, dialogue.where
    return dialogue._replace(messages=(*dialogue.messages[:-1], Message("assistant", (dialogue.rejected,))))


def encode_end(dialogue: Dialogue, start: int, template: ChatTemplate, features: MediaFeatures) -> Example:
    """A dialogue of which only the end of the last answer is to be predicted, from the character `start` on, where a word begins
    with the space before it."""
    (answer,) = dialogue.messages[-1].parts
    assert isinstance(answer, str)
    example = encode_last_answer(dialogue, template, features)
    targets = example.encoded.targets
    first = next(place for place, target in enumerate(targets) if target != IGNORE)
    given = first + len(template.tokenizer.encode(answer[:start], markup=False))
    return example._replace(encoded=example.encoded._replace(targets=[IGNORE] * given + targets[given:]))


def task_weights(dialogues: DialogueSet, config: DialogueDataConfig) -> Mapping[str, float]:
    """How often each task is drawn, by what a config gives.

    Raises:
        DataError: a task that is named is none, one that there is is not named, or none is ever drawn.
    """
    counts = {task: len(numbers) for task, numbers in dialogues.numbers.items()}
    given = config.weights_on_tinyworld if dialogues.corpus.generated else config.weights
    unknown = [task for task in given if task not in counts]
    if unknown:
        raise DataError(
            f"data.weights names {unknown[0]!r}, the tasks are {', '.join(counts)}",
            where="data.weights",
            fix="name tasks that the training split has",
        )
    if given and not any(given.values()):
        raise DataError(
            f"the weight of {', '.join(given)} is 0: nothing is ever drawn",
            where="data.weights",
            fix=f"--set data.weights.{next(iter(given))}=1, or as often as it should be",
        )
    if not given:
        return dict.fromkeys(counts, 1.0) if dialogues.corpus.generated else counts
    unnamed = [task for task in counts if task not in given]
    if unnamed and not dialogues.corpus.generated:
        raise DataError(
            f"data.weights does not say how often {unnamed[0]!r} is drawn, beside {', '.join(given)}",
            where="data.weights",
            fix=f"--set data.weights.{unnamed[0]}=1, or as often as it should be",
        )
    return {task: given[task] for task in counts if task in given}
