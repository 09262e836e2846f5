"""Dialogues about an image: one of each kind that its labels and captions allow, and one with several of their questions."""

from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from omnictl.data.images.describe.image_contents import ImageContent
from omnictl.data.images.describe.noun_phrases import content_words
from omnictl.data.images.describe.questions import Attribute, ImageQuestion, describe, is_so
from omnictl.data.images.describe.similar_labels import Thumbnail, find_similar
from omnictl.data.images.describe.yes_no_balance import LabelBalance, TruthBalance

NAMING, YES_NO, DESCRIPTION, SEVERAL_TURNS = "naming", "yes_no", "description", "several_turns"

CAPTION = ""
"""The name of a caption among those of attributes, none of which is empty."""

MOST_TURNS = 3


class Turn(NamedTuple):
    """A question as it is put, and its answer."""

    question: str
    answer: str


class ImageDialogue(NamedTuple):
    """A dialogue about one image, which is shown with the first question."""

    id: str
    task: str
    turns: tuple[Turn, ...]


class SplitDialogues:
    """Makes the dialogues about the images of one split, in their order.

    Args:
        attributes: by name, in the order in which they are asked for.
        similar: of each attribute with more than one value, the labels that each is easily taken for.
        seed: of all choices.
    """

    def __init__(
        self, attributes: Mapping[str, Attribute], similar: Mapping[str, Mapping[str, tuple[str, ...]]], seed: int
    ) -> None:
        self._attributes, self._seed = attributes, seed
        self._alone, self._in_turn = YesNoQuestions(attributes, similar), YesNoQuestions(attributes, similar)

    @property
    def num_unbalanced(self) -> int:
        """Images without a yes or no question: the answer could have been guessed from it."""
        return self._alone.num_unbalanced

    def about(self, image: ImageContent) -> Iterator[ImageDialogue]:
        """All dialogues about an image."""
        rng = Random(f"{self._seed}/{image.id}")
        known = {name: self._attributes[name] for name in self._attributes if name in image.labels}
        facts = {name: attribute.ask(image.labels[name]) for name, attribute in known.items() if attribute.form != "truth"}
        for name, question in facts.items():
            yield ImageDialogue(f"{image.id}: {name}", _task_of(known[name]), (_put(question, rng),))
        whether = self._alone.choose(image, rng)
        if whether is not None:
            yield ImageDialogue(f"{image.id}: yes or no", YES_NO, (_put(whether.question, rng),))
        captions = [describe(caption) for caption in image.captions]
        for number, question in enumerate(captions, start=1):
            yield ImageDialogue(f"{image.id}: description {number}", DESCRIPTION, (_put(question, rng),))
        described = {CAPTION: captions[int(rng.random() * len(captions))]} if captions else {}
        turns = _in_turn(facts | described, self._in_turn.choose(image, rng), rng)
        if len(turns) > 1:
            yield ImageDialogue(f"{image.id}: several turns", SEVERAL_TURNS, tuple(turns))


class Whether(NamedTuple):
    """A yes or no question, and the attribute that it is about."""

    attribute: str
    question: ImageQuestion


class YesNoQuestions:
    """Chooses yes or no questions about the images of a split.

    Args:
        attributes: by name.
        similar: as for `SplitDialogues`.
    """

    def __init__(self, attributes: Mapping[str, Attribute], similar: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
        self._attributes = attributes
        self._labels = {name: LabelBalance(similar[name], _words(attributes[name])) for name in similar}
        self._truths = {name: TruthBalance() for name, attribute in attributes.items() if attribute.form == "truth"}
        self.num_unbalanced = 0

    def choose(self, image: ImageContent, rng: Random) -> Whether | None:
        """A question about one of an image's attributes; None if there is none that keeps the balance."""
        names = [name for name in (*self._labels, *self._truths) if name in image.labels]
        rng.shuffle(names)
        for name in names:
            question = self._choose(name, image.labels[name])
            if question is not None:
                return Whether(name, question)
        self.num_unbalanced += bool(names)
        return None

    def _choose(self, name: str, label: str) -> ImageQuestion | None:
        attribute = self._attributes[name]
        if name in self._truths:
            return attribute.ask_truth(label) if self._truths[name].take(is_so(label)) else None
        asked = self._labels[name].choose(label)
        return None if asked is None else attribute.ask_whether(asked, label)


def _in_turn(facts: Mapping[str, ImageQuestion], whether: Whether | None, rng: Random) -> list[Turn]:
    """Two or three questions in any order, of different facts; where there is one fact alone, what it is and then yes or no."""
    count = MOST_TURNS - (rng.random() < 0.5)
    others = [question for name, question in facts.items() if whether is None or name != whether.attribute]
    rng.shuffle(others)
    if whether is not None and not others:
        chosen = [*facts.values(), whether.question]
    elif whether is not None:
        chosen = [whether.question, *others[: count - 1]]
        rng.shuffle(chosen)
    else:
        chosen = others[:count]
    return [_put(question, rng) for question in chosen]


def compare_labels(
    attributes: Mapping[str, Attribute], looks: Mapping[str, Mapping[str, Thumbnail]]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """The labels that each label is easily taken for, of each attribute that yes or no questions name labels of."""
    return {
        name: find_similar(list(attributes[name].phrases), _words(attributes[name]), looks.get(name, {}))
        for name in attributes
        if is_compared(attributes[name])
    }


def is_compared(attribute: Attribute) -> bool:
    """Whether yes or no questions name its labels."""
    return attribute.form != "truth" and attribute.is_varied


def _words(attribute: Attribute) -> dict[str, frozenset[str]]:
    return {label: content_words([phrase.words]) for label, phrase in attribute.phrases.items()}


def _task_of(attribute: Attribute) -> str:
    """Of a question for an attribute. None of the built-in world's tasks is called so: their weights are not meant."""
    if attribute.title is None:
        return NAMING
    return f"attribute_{'_'.join(attribute.title.split())}"


def _put(question: ImageQuestion, rng: Random) -> Turn:
    return Turn(question.wordings[int(rng.random() * len(question.wordings))], question.answer)
