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
from omnictl.generate.token_decoder import Prompt, answer_greedily
from omnictl.metrics.answers import is_same, is_true
from omnictl.metrics.error_rates import by_pair, word_errors
from omnictl.metrics.figures import Tile, contact_sheet
from omnictl.metrics.intervals import Better, Estimate, mean_of_rates, rate
from omnictl.metrics.shuffled_control import shuffled_inputs
from omnictl.models.omni import Omni
from omnictl.trainer.distributed.dtensor import in_slices

AT_ONCE = 32
"""Prompts answered side by side."""

SHUFFLE_SEED = 0

SAMPLES, SAMPLE_TOKENS = 6, 24
"""Dialogues that are answered at each validation, each of another task, and the longest of these answers."""

MOST_TILES = 36
SHOWN_SIDE = 160
"""Pixels of an image beside its question and answer."""

TRANSCRIBE = "transcribe"
CAPTION = "caption"

T = TypeVar("T")

STOP = frozenset({END, IM_END, IM_START})
"""Tokens that end an answer."""


class DialogueResult(NamedTuple):
    """A dialogue and the model's answer in place of its last one."""

    dialogue: Dialogue
    answer: str

    @property
    def right(self) -> bool:
        """Whether the answer counts as right."""
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
    def embed(self, prompts: Sequence[Tokens], media_features: MediaFeatures) -> Prompt:
        """Prompts, padded on the left to the longest, ready for the Thinker."""
        weight = self.model.thinker.embedding.weight
        values: dict[MediaKind, list[NDArray[Any]]] = {}
        for prompt in prompts:
            for media, value in media_features.values(prompt, "the conversation"):
                values.setdefault(media.kind, []).append(value)
        features = {
            kind: self.features(kind, some) if self.features else concatenate(some, weight) for kind, some in values.items()
        }
        lengths = [len(prompt.tokens) for prompt in prompts]
        missing = [max(lengths) - length for length in lengths]
        padded = [[END] * pad + list(prompt.tokens) for pad, prompt in zip(missing, prompts, strict=True)]
        embeddings = self.model.embed(torch.tensor(padded, device=weight.device), features)
        padding = torch.tensor(missing, device=weight.device) if any(missing) else None
        if not self.placed:
            return Prompt(embeddings, None, padding)
        positions = [compute_positions(prompt, media_features.count, media_features.grids) for prompt in prompts]
        places = np.stack([np.pad(some, ((pad, 0), (0, 0))) for pad, some in zip(missing, positions, strict=True)])
        return Prompt(embeddings, torch.from_numpy(places).to(weight.device), padding)

    def answer_all(self, dialogues: Sequence[Dialogue], media_features: MediaFeatures, *, max_reply: int) -> list[DialogueResult]:
        """The model's answer in place of each dialogue's last one, decoded greedily."""
        prompts = [self.template.prompt(dialogue.messages[:-1], media_features.count) for dialogue in dialogues]
        answers = [""] * len(prompts)
        room = self.model.thinker.config.context - max_reply
        for numbers in _of_similar_length([len(prompt.tokens) for prompt in prompts], room):
            prompt = self.embed([prompts[number] for number in numbers], media_features)
            written = answer_greedily(self.model.thinker, prompt, max_tokens=max_reply, stop=STOP)
            for number, tokens in zip(numbers, written, strict=True):
                answers[number] = self.template.tokenizer.decode(tokens).strip()
        return [DialogueResult(dialogue, answer) for dialogue, answer in zip(dialogues, answers, strict=True)]


def _of_similar_length(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The numbers of up to `AT_ONCE` prompts; those that are longer than `room`, where padding would shorten answers, by length."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    for _, group in groupby(order, key=lambda number: max(room, lengths[number])):
        numbers = list(group)
        yield from (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))


def rates(answered: Sequence[DialogueResult]) -> dict[str, Estimate]:
    """Accuracy of each task, or word error rate of transcripts, by the names of metrics."""
    return {metric_of(task): _rate(task, results) for task, results in _by_task(answered).items()}


def find_commonest(answered: Sequence[DialogueResult]) -> dict[str, Estimate]:
    """As `rates`, of always giving the commonest answer of the task's other dialogues; tasks with transcripts left out."""
    by_task = {task: results for task, results in _by_task(answered).items() if task != TRANSCRIBE}
    return {metric_of(task): _rate(task, _with_commonest(results)) for task, results in by_task.items()}


def _with_commonest(results: Sequence[DialogueResult]) -> list[DialogueResult]:
    """Dialogues of a task, each answered as most of the others are; where there is no other, with nothing."""
    counts = Counter(result.dialogue.answer for result in results)

    def answer(reference: str) -> str:
        others = {text: count - (text == reference) for text, count in counts.most_common(2)}  # one less changes no more than these
        best = max(others, key=lambda text: others[text])
        return best if others[best] else ""

    return [result._replace(answer=answer(result.dialogue.answer)) for result in results]


def _by_task(answered: Sequence[DialogueResult]) -> dict[str, list[DialogueResult]]:
    by_task: dict[str, list[DialogueResult]] = {}
    for result in answered:
        by_task.setdefault(result.dialogue.task, []).append(result)
    return by_task


def metric_of(task: str) -> str:
    """What a task is measured by."""
    return f"wer_{task}" if task == TRANSCRIBE else f"accuracy_{task}"


def _rate(task: str, results: Sequence[DialogueResult]) -> Estimate:
    if task == TRANSCRIBE:
        references, predictions = (
            [normalise(text) for text in texts] for texts in zip(*((o.dialogue.answer, o.answer) for o in results), strict=True)
        )
        return by_pair(word_errors, references, predictions)
    return rate([result.right for result in results])


def mean_accuracy(estimates: Mapping[str, Estimate]) -> Estimate:
    """Over the tasks that have one; of none, nothing is right."""
    return mean_of_rates([estimate for name, estimate in estimates.items() if name.startswith("accuracy_")])


def with_controls(
    estimates_of_rates: Mapping[str, Estimate], exchanged: Mapping[str, Estimate], commonest: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """The mean accuracy, that of tasks with media if there are any, and all rates, each with what it is compared with.

    Args:
        estimates_of_rates: the rates.
        exchanged: those with exchanged media, of the tasks that have media.
        commonest: those of the commonest answers.
    """
    estimates = {"accuracy": mean_accuracy(estimates_of_rates).against("accuracy_commonest", mean_accuracy(commonest), "higher")}
    if any(name.startswith("accuracy_") for name in exchanged):
        with_media = mean_accuracy({name: estimates_of_rates[name] for name in exchanged})
        estimates["accuracy_media"] = with_media.against("accuracy_shuffled", mean_accuracy(exchanged), "higher")
    for name, estimate in estimates_of_rates.items():
        better: Better = "higher" if name.startswith("accuracy_") else "lower"
        if name in exchanged:
            estimates[name] = estimate.against(f"{name}_shuffled", exchanged[name], better)
        elif name in commonest:
            estimates[name] = estimate.against(f"{name}_commonest", commonest[name], better)
        else:
            estimates[name] = estimate
    return estimates


class JudgedAnswers(NamedTuple):
    """Answers, how good they are, and how good others are that did not see or hear the same."""

    results: list[DialogueResult]
    estimates: Mapping[str, Estimate]
    controls: Mapping[str, float]


def judge_with_controls(
    respondent: "Respondent", dialogues: Sequence[Dialogue], features: MediaFeatures, *, max_reply: int
) -> JudgedAnswers:
    """Answer dialogues as they are, with exchanged media and with none.

    Args:
        respondent: who answers.
        dialogues: of all tasks.
        features: of their media.
        max_reply: most tokens of an answer.
    """
    results = respondent.answer_all(dialogues, features, max_reply=max_reply)
    without = {
        control: rates(respondent.answer_all(changed, features, max_reply=max_reply))
        for control, changed in (("shuffled", exchange_media(dialogues)), ("text_only", text_only(dialogues)))
    }
    estimates = with_controls(rates(results), without["shuffled"], find_commonest(results))
    compared = {one.control.name: one.control.value for one in estimates.values() if one.control}
    others = {f"{name}_{control}": one.value for control, some in without.items() for name, one in some.items()}
    return JudgedAnswers(results, estimates, compared | others)


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
    """A dialogue with the other images (or recordings) in the place of its own, taken in turn; its own if there are no others."""
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


def prediction(result: DialogueResult, corpus: DialogueCorpus, split: Split) -> dict[str, object]:
    """An answer as a line of a report's predictions; `image` and `audio` are the files it is about, if they are files."""
    dialogue = result.dialogue
    line: dict[str, object] = {
        "id": dialogue.id,
        "task": dialogue.task,
        "prompt": dialogue.messages[-2].text,
        "reference": dialogue.answer,
        "prediction": result.answer,
    }
    for media in dialogue.media:
        if (file := corpus.file(split, media)) is not None:
            line[media.kind] = str(file)
    return line


def sample_answers(respondent: Respondent, dialogues: Sequence[Dialogue], media_features: MediaFeatures) -> list[dict[str, object]]:
    """Short answers to the first dialogue of some tasks, to be seen at each validation; none of a model in slices."""
    if in_slices(respondent.model):
        return []
    by_task: dict[str, Dialogue] = {}
    for dialogue in dialogues:
        by_task.setdefault(dialogue.task, dialogue)
    first = list(by_task.values())[:SAMPLES]
    with torch.autocast(respondent.model.thinker.embedding.weight.device.type, enabled=False):  # as it answers in use
        answered = respondent.answer_all(first, media_features, max_reply=SAMPLE_TOKENS)
    return [
        {
            "prompt": f"{one.dialogue.task}: {one.dialogue.messages[-2].text}",
            "reference": one.dialogue.answer,
            "prediction": one.answer,
        }
        for one in answered
    ]


def answer_sheet(answered: Sequence[DialogueResult], images: ImageCollection) -> bytes:
    """Questions about images with their answers as a PNG, of all tasks in turn."""
    with_images = [result for result in answered if any(media.kind == "image" for media in result.dialogue.media)]
    by_task = [
        [result for result in with_images if result.dialogue.task == task]
        for task in dict.fromkeys(result.dialogue.task for result in with_images)
    ]
    in_turn = (result for row in zip_longest(*by_task) for result in row if result is not None)
    return contact_sheet([_tile(result, images) for result in islice(in_turn, MOST_TILES)])


def _tile(result: DialogueResult, images: ImageCollection) -> Tile:
    first = next(media for media in result.dialogue.media if media.kind == "image")
    pixels = images.image(first.number, SHOWN_SIDE).transpose(1, 2, 0)
    question = result.dialogue.messages[-2].text or f"({result.dialogue.task})"
    return Tile(pixels, (question, result.answer, "right" if result.right else f"not: {result.dialogue.answer}"))


class WritingResult(NamedTuple):
    """How well text is still written."""

    metrics: Mapping[str, float]
    estimates: Mapping[str, Estimate]
    controls: Mapping[str, float]


def name_as_text(metrics: Mapping[str, T]) -> dict[str, T]:
    """What stage A says, its loss named so that it is none of this stage."""
    return {"text_loss": metrics["loss"], **{name: metric for name, metric in metrics.items() if name != "loss"}}
