"""How well a model answers: every dialogue of a split, its media as they are, exchanged, and taken away.

An answer is right if it has the words of the reference; a caption, if every fact that it states is true; transcripts are judged by
their word error rate. What a model answers with other media, or with none, follows from the texts alone: only by how much better it
answers with its own does it look and listen.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, zip_longest
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.config.split import Split
from omnictl.data.dialogues.chat_template import ChatTemplate, Dialogue, Tokens, compute_positions
from omnictl.data.dialogues.corpus import DialogueCorpus, ImageCollection
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.speech.transcripts import unicode_text
from omnictl.data.speech.transcripts.transcript import foreign_characters, normalise
from omnictl.data.text.tokenizer import END, IM_END, IM_START
from omnictl.evaluation.media_controls import exchange_media, take_media_away
from omnictl.generate.token_decoder import Prompt, answer_greedily
from omnictl.metrics.answers import is_same, is_true
from omnictl.metrics.error_rates import by_pair, word_errors
from omnictl.metrics.figures import Tile, contact_sheet
from omnictl.metrics.intervals import Better, Estimate, mean_of_rates, rate
from omnictl.models.omni import Omni
from omnictl.trainer.distributed.dtensor import in_slices

AT_ONCE = 32
"""Prompts answered side by side."""

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
    """As `rates`, of always giving the commonest answer of the task's other dialogues."""
    return {metric_of(task): _rate(task, _with_commonest(results)) for task, results in _by_task(answered).items()}


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
    if task != TRANSCRIBE:
        return rate([result.right for result in results])
    is_foreign = any(foreign_characters(result.dialogue.answer) for result in results)
    spell = unicode_text.normalise if is_foreign else normalise
    return by_pair(word_errors, [spell(each.dialogue.answer) for each in results], [spell(each.answer) for each in results])


def mean_accuracy(estimates: Mapping[str, Estimate]) -> Estimate:
    """Over the tasks that have one; of none, nothing is right."""
    return mean_of_rates([estimate for name, estimate in estimates.items() if name.startswith("accuracy_")])


def validation_metrics(right: Mapping[str, Sequence[bool]], loss: float) -> dict[str, float]:
    """The mean over tasks of how many answers are wholly right, the loss, and each task's share.

    As in `rates`, transcripts do not count in the mean, unless there is nothing else.
    """
    shares = {task: sum(hits) / len(hits) for task, hits in right.items()}
    counted = [share for task, share in shares.items() if task != TRANSCRIBE] or [*shares.values()]
    by_task = {f"accuracy_{task}": share for task, share in shares.items()}
    return {"accuracy": sum(counted) / len(counted), "loss": loss, **by_task}


class MediaRates(NamedTuple):
    """Rates of the dialogues that have media: as they are, with exchanged media, and with none."""

    own: Mapping[str, Estimate]
    shuffled: Mapping[str, Estimate]
    text_only: Mapping[str, Estimate]

    @property
    def controls(self) -> dict[str, Mapping[str, Estimate]]:
        """The latter two by what their metrics' names end with."""
        return {"shuffled": self.shuffled, "text_only": self.text_only}

    def have_all(self, name: str, estimate: Estimate) -> bool:
        """Whether all examples of a rate have media."""
        return name in self.own and self.own[name].count == estimate.count


def with_controls(
    estimates_of_rates: Mapping[str, Estimate], media: MediaRates, commonest: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """The mean accuracy, that of dialogues with media if there are any, and all rates, each with what it is compared with.

    That is the better one of both controls of media where all dialogues of a rate have some, else the commonest answers.

    Args:
        estimates_of_rates: the rates.
        media: those of the dialogues with media alone, and their controls.
        commonest: those of the commonest answers.
    """
    estimates = {}
    if any(name.startswith("accuracy_") for name in estimates_of_rates):
        commonest_mean = mean_accuracy(commonest)
        estimates["accuracy"] = mean_accuracy(estimates_of_rates).against("accuracy_commonest", commonest_mean, "higher")
    if any(name.startswith("accuracy_") for name in media.own):
        means = {f"accuracy_{control}": mean_accuracy(some) for control, some in media.controls.items()}
        estimates["accuracy_media"] = _against_best(mean_accuracy(media.own), means, "higher")
    for name, estimate in estimates_of_rates.items():
        better: Better = "higher" if name.startswith("accuracy_") else "lower"
        controls = {f"{name}_commonest": commonest[name]}
        if media.have_all(name, estimate):
            controls = {f"{name}_{control}": some[name] for control, some in media.controls.items()}
        estimates[name] = _against_best(estimate, controls, better)
    return estimates


def _against_best(estimate: Estimate, controls: Mapping[str, Estimate], better: Better) -> Estimate:
    choose = max if better == "higher" else min
    name = choose(controls, key=lambda control: controls[control].value)
    return estimate.against(name, controls[name], better)


class JudgedAnswers(NamedTuple):
    """Answers, how good they are, and how good others are that did not see or hear the same."""

    results: list[DialogueResult]
    estimates: Mapping[str, Estimate]
    """The headline metric first: the mean accuracy, or the word error rate where there are only transcripts."""
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
    own = rates([result for result in results if result.dialogue.media])
    without = (
        rates(respondent.answer_all(changed, features, max_reply=max_reply))
        for changed in (exchange_media(dialogues), take_media_away(dialogues))
    )
    media = MediaRates(own, *without)
    estimates = with_controls(rates(results), media, find_commonest(results))
    compared = {one.control.name: one.control.value for one in estimates.values() if one.control}
    others = {f"{name}_{control}": one.value for control, some in media.controls.items() for name, one in some.items()}
    if "accuracy_media" in estimates:
        others |= {f"accuracy_{control}": mean_accuracy(some).value for control, some in media.controls.items()}
    return JudgedAnswers(results, estimates, compared | others)


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
