"""Questions about labels and captions, several wordings each, and the one right answer, whatever the wording.

Answers are TinyWorld's: whole sentences or the thing alone, and a yes or no stands behind the fact that it follows from.
"""

import re
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from omnictl.data.images.describe.noun_phrases import NounPhrase, is_plural, make_readable, noun_phrases, number_words, singular
from omnictl.tinyworld.topics.topic import conclude

CLASS = "label"
"""The attribute of labels that have no name of their own: what the image shows."""

GROUP = "group"
"""What such an attribute is called if most of its labels have a plural in them: flags, animals-nature."""

MOST_DIGITS = 6
"""Of numbers that are said in words."""

Form = Literal["thing", "value", "number", "truth"]
"""What values are: what the image shows, a property of it, how many there are, or whether something is so."""

_TRUE, _FALSE = ("true", "yes"), ("false", "no")

NAME = ("What is this?", "What is shown here?", "What does this image show?", "Name what you see.")

DESCRIBE = (
    "Describe the image.",
    "Please describe this image.",
    "Describe what you see.",
    "Say in one sentence what the image shows.",
)


class ImageQuestion(NamedTuple):
    """A question in all its wordings, and the answer."""

    wordings: tuple[str, ...]
    answer: str


class Attribute:
    """What labels of one name say, as questions and answers.

    Args:
        name: as the corpus has it.
        values: that it has in training.
        called: what it is instead of a thing, for labels without a name; None: by the values, things or groups.
        names: what some values are called.
    """

    def __init__(self, name: str, values: Collection[str], called: str | None, names: Mapping[str, str]) -> None:
        self.name = name
        self.phrases: Mapping[str, NounPhrase] = noun_phrases(values, names)
        self.is_guess = name == CLASS and called is None and _mostly_plural(self.phrases.values())
        title = (called or (GROUP if self.is_guess else None)) if name == CLASS else name
        self.title = " ".join(make_readable([title])) if title else None
        self.is_plural = self.title is not None and is_plural(self.title.rpartition(" ")[2].casefold())
        self.form = self._find_form(values)
        self.is_varied = len(values) > 1

    def _find_form(self, values: Collection[str]) -> Form:
        if all(value.casefold() in (*_TRUE, *_FALSE) for value in values) and self.title is not None:
            return "truth"
        if self.title is None:
            return "thing"
        return "number" if self.is_plural and all(value.isdecimal() and len(value) <= MOST_DIGITS for value in values) else "value"

    def ask(self, label: str) -> ImageQuestion:
        """What it is: the question that the label answers."""
        fact = self._fact(label)
        if self.form == "thing":
            return ImageQuestion(NAME, sentence(self.phrases[label].phrase))
        if self.form == "number":
            wordings = (
                f"How many {self.title} are there?",
                f"Tell me how many {self.title} there are.",
                f"Count the {self.title}.",
            )
            return ImageQuestion(wordings, f"{fact}.")
        verb = "are" if self.is_plural else "is"
        wordings = (f"What {verb} the {self.title}?", f"Tell me the {self.title}.", f"Name the {self.title}.")
        return ImageQuestion(wordings, f"{fact}.")

    def ask_whether(self, asked: str, label: str) -> ImageQuestion:
        """Whether it is a label that is asked about, which may be the right one."""
        return ImageQuestion(self._whether(asked), conclude(self._fact(label), asked == label))

    def ask_truth(self, label: str) -> ImageQuestion:
        """Whether what the attribute says is so."""
        wordings = (
            f"Is this true of the image: {self.title}?",
            f"Yes or no: {self.title}?",
            f"{sentence(self.title or '')[:-1]}, yes or no?",
        )
        return ImageQuestion(wordings, "Yes." if is_so(label) else "No.")

    def _fact(self, label: str) -> str:
        phrase = self.phrases[label]
        if self.form == "thing":
            return phrase.this_is
        if self.form == "number":
            return f"There {'is' if int(label) == 1 else 'are'} {self._count(label)}"
        return f"The {self.title} {'are' if self.is_plural else 'is'} {phrase.words}"

    def _whether(self, asked: str) -> tuple[str, ...]:
        phrase = self.phrases[asked]
        if self.form == "thing":
            return f"{phrase.is_this}?", f"Does this image show {phrase.phrase}?", f"Can you see {phrase.phrase} here?"
        if self.form == "number":
            verb = "Is" if int(asked) == 1 else "Are"
            return f"{verb} there {self._count(asked)}?", f"Can you see {self._count(asked)}?"
        verb = "are" if self.is_plural else "is"
        fact = f"the {self.title} {verb} {phrase.words}"
        return f"{verb.capitalize()} the {self.title} {phrase.words}?", f"Is it true that {fact}?", f"Would you say that {fact}?"

    def _count(self, number: str) -> str:
        """`four wheels`, `one wheel`."""
        title = self.title or ""
        before, _, last = title.rpartition(" ")
        noun = " ".join(filter(None, (before, singular(last)))) if int(number) == 1 else title
        return f"{number_words(int(number))} {noun}"


def _mostly_plural(phrases: Collection[NounPhrase]) -> bool:
    return sum(any(map(is_plural, phrase.words.casefold().split())) for phrase in phrases) * 2 > len(phrases)


def is_so(value: str) -> bool:
    """Whether a truth value is the true one."""
    return value.casefold() in _TRUE


def describe(caption: str) -> ImageQuestion:
    """What the image shows, in the words of its caption."""
    return ImageQuestion(DESCRIBE, sentence(caption))


def sentence(text: str) -> str:
    """A text with a capital in front and a mark at its end."""
    text = text.strip()
    if text[:1].islower() and not text[1:2].isupper():  # iPhones stay
        text = text[0].upper() + text[1:]
    return text if re.search(r"[.!?…]['\"”’)]?$", text) else f"{text}."
