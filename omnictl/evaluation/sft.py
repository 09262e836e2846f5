"""How well a model answers: every dialogue of a split, its media as they are, exchanged, and taken away.

An answer is right if it has the words of the reference; a caption, if every fact that it states is true; transcripts are judged by
their word error rate. Exchanged media must not help more than none at all, or the model does not really look and listen.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, groupby, islice, zip_longest
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.config.split import Split
from omnictl.data.dialogues.chat_template import ChatTemplate, Dialogue, Media, Message, Tokens, compute_positions, strip_media
from omnictl.data.dialogues.corpus import DialogueCorpus, ImageCollection
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.speech.transcripts.transcript import normalise
from omnictl.data.text.tokenizer import END, IM_END, IM_START
from omnictl.generate.decode import Prompt, answer_greedily
from omnictl.metrics.answers import is_same, is_true
from omnictl.metrics.figures import Tile, contact_sheet
from omnictl.metrics.intervals import Better, Estimate, mean_of_rates, rate
from omnictl.metrics.shuffle import shuffled_inputs
from omnictl.metrics.speech import by_pair, word_errors
from omnictl.models.omni import Omni

AT_ONCE = 32
"""Prompts of equal length answered side by side."""

SHUFFLE_SEED = 0

MOST_TILES = 36
SHOWN_SIDE = 160
"""Pixels of an image beside its question and answer."""

TRANSCRIBE = "transcribe"
CAPTION = "caption"

T = TypeVar("T")

STOP = frozenset({END, IM_END, IM_START})
"""Tokens that end an answer."""


class DialogueResult(NamedTuple):
    """A dialogue and what the model said in the place of its last answer."""

    dialogue: Dialogue
    answer: str

    @property
    def right(self) -> bool:
        """Whether it is."""
        judge = is_true if self.dialogue.task == CAPTION else is_same
        return judge(self.answer, self.dialogue.answer)


def concatenate(values: Sequence[NDArray[Any]], like: Tensor) -> Tensor:
    """Features `(N, width)`, those of one image or recording behind the other's, where another tensor is and of its type."""
    return torch.from_numpy(np.concatenate(values)).to(like)


@dataclass(frozen=True)
class Respondent:
    """A model that answers."""

    model: Omni
    template: ChatTemplate
    placed: bool
    """Whether positions are time-aware."""
    features: Callable[[MediaKind, Sequence[NDArray[Any]]], Tensor] | None = None
    """Features `(N, width)` of some values of one kind, one after the other; None: the values are such themselves."""

    @torch.no_grad()
    def embed(self, found: Sequence[Tokens], shown: MediaFeatures) -> Prompt:
        """Prompts of equal length, ready for the Thinker."""
        weight = self.model.thinker.embedding.weight
        values: dict[MediaKind, list[NDArray[Any]]] = {}
        for each in found:
            for media, value in shown.values(each, "the conversation"):
                values.setdefault(media.kind, []).append(value)
        features = {
            kind: self.features(kind, some) if self.features else concatenate(some, weight) for kind, some in values.items()
        }
        tokens = torch.tensor([each.tokens for each in found], device=weight.device)
        embeddings = self.model.embed(tokens, features)
        if not self.placed:
            return Prompt(embeddings, None)
        positions = np.stack([compute_positions(each, shown.count, shown.grids) for each in found])
        return Prompt(embeddings, torch.from_numpy(positions).to(weight.device))

    def answer_all(self, dialogues: Sequence[Dialogue], shown: MediaFeatures, *, max_reply: int) -> list[DialogueResult]:
        """What it says in the place of each dialogue's last answer, always the likeliest."""
        found = [self.template.prompt(dialogue.messages[:-1], shown.count) for dialogue in dialogues]
        answers = [""] * len(found)
        for numbers in _of_equal_length([len(each.tokens) for each in found]):
            prompt = self.embed([found[number] for number in numbers], shown)
            written = answer_greedily(self.model.thinker, prompt, max_tokens=max_reply, stop=STOP)
            for number, tokens in zip(numbers, written, strict=True):
                answers[number] = self.template.tokenizer.decode(tokens).strip()
        return [DialogueResult(dialogue, answer) for dialogue, answer in zip(dialogues, answers, strict=True)]


def _of_equal_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of up to `AT_ONCE` prompts of one length."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    for _, group in groupby(order, key=lambda number: lengths[number]):
        numbers = list(group)
        yield from (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))


def rates(answered: Sequence[DialogueResult]) -> dict[str, Estimate]:
    """Accuracy of each task, or word error rate of transcripts, by the names of metrics."""
    return {metric_of(task): _rate(task, found) for task, found in _by_task(answered).items()}


def find_commonest(answered: Sequence[DialogueResult]) -> dict[str, Estimate]:
    """As `rates`, of always giving the commonest answer of the task's other dialogues; tasks with transcripts left out."""
    by_task = {task: found for task, found in _by_task(answered).items() if task != TRANSCRIBE}
    return {metric_of(task): _rate(task, _with_commonest(found)) for task, found in by_task.items()}


def _with_commonest(found: Sequence[DialogueResult]) -> list[DialogueResult]:
    """Dialogues of a task, each answered as most of the others are; where there is no other, with nothing."""
    counts = Counter(one.dialogue.answer for one in found)

    def answer(own: str) -> str:
        others = {text: count - (text == own) for text, count in counts.most_common(2)}  # one less changes no more than these
        best = max(others, key=lambda text: others[text])
        return best if others[best] else ""

    return [one._replace(answer=answer(one.dialogue.answer)) for one in found]


def _by_task(answered: Sequence[DialogueResult]) -> dict[str, list[DialogueResult]]:
    by_task: dict[str, list[DialogueResult]] = {}
    for one in answered:
        by_task.setdefault(one.dialogue.task, []).append(one)
    return by_task


def metric_of(task: str) -> str:
    """What a task is measured by."""
    return f"wer_{task}" if task == TRANSCRIBE else f"accuracy_{task}"


def _rate(task: str, found: Sequence[DialogueResult]) -> Estimate:
    if task == TRANSCRIBE:
        said, heard = (
            [normalise(text) for text in texts] for texts in zip(*((o.dialogue.answer, o.answer) for o in found), strict=True)
        )
        return by_pair(word_errors, said, heard)
    return rate([one.right for one in found])


def mean_accuracy(found: Mapping[str, Estimate]) -> Estimate:
    """Over the tasks that have one; of none, nothing is right."""
    return mean_of_rates([one for name, one in found.items() if name.startswith("accuracy_")])


def with_controls(
    found: Mapping[str, Estimate], exchanged: Mapping[str, Estimate], commonest: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """The mean accuracy, that of tasks with media if there are any, and all rates, each with what it is compared with.

    Args:
        found: the rates.
        exchanged: those with exchanged media, of the tasks that have media.
        commonest: those of the commonest answers.
    """
    estimates = {"accuracy": mean_accuracy(found).against("accuracy_commonest", mean_accuracy(commonest), "higher")}
    if any(name.startswith("accuracy_") for name in exchanged):
        with_media = mean_accuracy({name: found[name] for name in exchanged})
        estimates["accuracy_media"] = with_media.against("accuracy_shuffled", mean_accuracy(exchanged), "higher")
    for name, one in found.items():
        better: Better = "higher" if name.startswith("accuracy_") else "lower"
        if name in exchanged:
            estimates[name] = one.against(f"{name}_shuffled", exchanged[name], better)
        elif name in commonest:
            estimates[name] = one.against(f"{name}_commonest", commonest[name], better)
        else:
            estimates[name] = one
    return estimates


def exchange_media(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that have media, each with those of another one of its task: none keeps its own if there are two or more."""
    result = [dialogue for dialogue in dialogues if dialogue.media]
    for task in dict.fromkeys(dialogue.task for dialogue in result):
        numbers = [number for number, dialogue in enumerate(result) if dialogue.task == task]
        before = [result[number] for number in numbers]
        for number, other in zip(numbers, shuffled_inputs(len(numbers), SHUFFLE_SEED), strict=True):
            for kind in MODALITIES:
                result[number] = _with_media(result[number], kind, [m for m in before[other].media if m.kind == kind])
    return result


def _with_media(dialogue: Dialogue, kind: MediaKind, others: Sequence[Media]) -> Dialogue:
    """A dialogue with the other images (or sounds) in the place of its own, taken in turn; its own if there are no others."""
    if not others:
        return dialogue
    taken = cycle(others)
    messages = tuple(
        Message(message.role, tuple(next(taken) if isinstance(p, Media) and p.kind == kind else p for p in message.parts))
        for message in dialogue.messages
    )
    return dialogue._replace(messages=messages)


def text_only(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that have media, without these."""
    return [dialogue._replace(messages=strip_media(dialogue.messages)) for dialogue in dialogues if dialogue.media]


def prediction(one: DialogueResult, corpus: DialogueCorpus, split: Split) -> dict[str, object]:
    """An answer as a line of a report's predictions; `image` and `audio` are the files it is about, if they are files."""
    dialogue = one.dialogue
    line: dict[str, object] = {
        "id": dialogue.id,
        "task": dialogue.task,
        "prompt": dialogue.messages[-2].text,
        "reference": dialogue.answer,
        "prediction": one.answer,
    }
    for media in dialogue.media:
        if (file := corpus.file(split, media)) is not None:
            line[media.kind] = str(file)
    return line


def answer_sheet(answered: Sequence[DialogueResult], images: ImageCollection) -> bytes:
    """Questions about images with their answers as a PNG, of all tasks in turn."""
    seen = [one for one in answered if any(media.kind == "image" for media in one.dialogue.media)]
    by_task = [[one for one in seen if one.dialogue.task == task] for task in dict.fromkeys(one.dialogue.task for one in seen)]
    in_turn = (one for row in zip_longest(*by_task) for one in row if one is not None)
    return contact_sheet([_tile(one, images) for one in islice(in_turn, MOST_TILES)])


def _tile(one: DialogueResult, images: ImageCollection) -> Tile:
    first = next(media for media in one.dialogue.media if media.kind == "image")
    pixels = images.image(first.number, SHOWN_SIDE).transpose(1, 2, 0)
    question = one.dialogue.messages[-2].text or f"({one.dialogue.task})"
    return Tile(pixels, (question, one.answer, "right" if one.right else f"not: {one.dialogue.answer}"))


class Writing(NamedTuple):
    """How well text is still written."""

    metrics: Mapping[str, float]
    estimates: Mapping[str, Estimate]
    controls: Mapping[str, float]


def name_as_text(found: Mapping[str, T]) -> dict[str, T]:
    """What stage A says, its loss named so that it is none of this stage."""
    return {"text_loss": found["loss"], **{name: one for name, one in found.items() if name != "loss"}}
