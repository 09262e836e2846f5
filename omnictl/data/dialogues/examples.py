"""A split of a corpus of dialogues to train on: those that can be used and fit into the context, as tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.data.dialogues.chat_template import ChatTemplate, Dialogue, Tokens
from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError
from omnictl.nn.losses.cross_entropy import IGNORE
from omnictl.tinyworld.dialogues import TASKS


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

    def all(self) -> Iterator[Dialogue]:
        """Every dialogue, one of each task in turn."""
        longest = max(map(len, self.numbers.values()), default=0)
        return (self.dialogue(task, i) for i in range(longest) for task, indices in self.numbers.items() if i < len(indices))


def open_dialogue_set(
    corpus: DialogueCorpus, split: Split, template: ChatTemplate, features: MediaFeatures, context: int
) -> DialogueSet:
    """The dialogues of a split whose recordings can be read and which fit into the context; endless ones are not checked yet."""
    tasks = corpus.tasks(split)
    if corpus.generated and split == "train":
        return DialogueSet(corpus, split, {task: range(number) for task, number in tasks.items()}, ())
    set_aside: list[BrokenRow] = []
    numbers: dict[str, list[int]] = {}
    for task, count in tasks.items():
        for number in range(count):
            dialogue = corpus.dialogue(split, task, number)
            flaw = _flaw(dialogue, template, features, context)
            if flaw is None:
                numbers.setdefault(task, []).append(number)
            else:
                set_aside.append(BrokenRow(dialogue.id, dialogue.where, flaw))
    return DialogueSet(corpus, split, numbers, tuple(set_aside))


def _flaw(dialogue: Dialogue, template: ChatTemplate, features: MediaFeatures, context: int) -> str | None:
    for media in dialogue.media:
        if (flaw := features.flaw(media)) is not None:
            return flaw
    length = len(template.dialogue(dialogue.messages, features.count).tokens)
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


def task_weights(dialogues: DialogueSet, given: Mapping[str, float]) -> Mapping[str, float]:
    """How often each task is drawn, by what a config gives.

    What is said of the built-in world's tasks does not concern data that has none of them.

    Raises:
        DataError: a task that is named is none, or one that there is is not named.
    """
    counts = {task: len(numbers) for task, numbers in dialogues.numbers.items()}
    allowed = counts if dialogues.corpus.generated else (*counts, *TASKS)
    unknown = [task for task in given if task not in allowed]
    if unknown:
        raise DataError(
            f"data.weights names {unknown[0]!r}, the tasks are {', '.join(counts)}",
            where="data.weights",
            fix="name tasks that the training split has",
        )
    if not given.keys() & counts.keys():
        return dict.fromkeys(counts, 1.0) if dialogues.corpus.generated else counts
    unnamed = [task for task in counts if task not in given]
    if unnamed and not dialogues.corpus.generated:
        raise DataError(
            f"data.weights does not say how often {unnamed[0]!r} is drawn, beside {', '.join(given.keys() & counts.keys())}",
            where="data.weights",
            fix=f"--set data.weights.{unnamed[0]}=1, or as often as it should be",
        )
    return {task: given[task] for task in counts if task in given}
