"""Short lessons before the documents: what goes with what, told and recalled at once.

A model reads documents for millions of tokens before it looks up which of several shapes has which colour. Where a text holds
nothing but such bindings, it learns to within a tenth of that; the documents then find the skill in place. A lesson tells one
attribute of a few shapes, and then either recalls some of it (lookups) or asks for it (questions, some of them for yes or no), in
the words of the documents. Its probability is as exact as theirs.
"""

from hashlib import blake2b
from random import Random
from typing import Literal

from omnictl.tinyworld.language import grammar
from omnictl.tinyworld.language.grammar import END, ScoredText, Writer
from omnictl.tinyworld.language.lexicon import COLOURS, PLACES, SHAPES, SIZES, others, with_articles
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER, USER
from omnictl.tinyworld.topics.images import DescribedImage, Item

LessonKind = Literal["colours", "lookups", "questions"]
"""Lookups of colours alone, of anything, and questions."""

RECALLS = 4
"""Facts that lookups recall, and questions that are asked."""

FEWEST, MOST = 2, 4
"""Shapes of a lesson."""

_QUESTIONS = {
    "colours": ("what colour is the", "tell me the colour of the", "which shape is", "is there", "is the", "how many shapes"),
    "places": ("where is the", "tell me where the", "what is", "is it true that the"),
    "sizes": ("what size is the",),
}
"""What is asked in a lesson, by what it tells."""


def lesson(kind: LessonKind, seed: int, index: int) -> str:
    """One lesson: a pure function of its arguments, the same on every machine and Python version."""
    key = blake2b(f"lesson/{kind}/{seed}/{index}".encode(), digest_size=16).digest()
    return grammar.sample(_GRAMMARS[kind], Random(int.from_bytes(key, "big")))


def score_lesson(kind: LessonKind, text: str) -> ScoredText:
    """The exact log-probabilities, in nats, of a lesson and of each of its words; raises as `omnictl.tinyworld.score`."""
    return grammar.score(_GRAMMARS[kind], text)


def write_lookups(w: Writer) -> None:
    """`Colours. A red circle, a blue star. The star is blue. The red shape is the circle. …`."""
    _write_lookups(w, w.pick(tuple(_QUESTIONS)))


def write_colours(w: Writer) -> None:
    """Lookups of colours alone."""
    w.say("colours")
    _write_lookups(w, "colours")


def _write_lookups(w: Writer, told: str) -> None:
    w.say(".")
    items = tell_facts(w, told).items.values()
    recalls = {
        "colours": [f"the {one.shape} is {one.colour}." for one in items]
        + [f"the {one.colour} shape is the {one.shape}." for one in items],
        "places": [f"the {one.shape} is {one.place}." for one in items] + [f"{one.place} is the {one.shape}." for one in items],
        "sizes": [f"the {one.shape} is {one.size}." for one in items],
    }
    for _ in range(RECALLS):
        w.pick(tuple(recalls[told]))
    w.say(END)


def write_questions(w: Writer) -> None:
    """A person tells one attribute of a few shapes and asks for it."""
    w.say(USER)
    told = w.pick(tuple(_QUESTIONS))
    w.say(".")
    image = tell_facts(w, told)
    questions = {opening: ask for opening, ask in image.questions().items() if opening in _QUESTIONS[told]}
    for number in range(RECALLS):
        answer = questions[w.pick(tuple(questions))](w)
        w.say(f"{ANSWER}{answer}{CLOSE}")
        w.say(END if number == RECALLS - 1 else NEXT_USER)


def tell_facts(w: Writer, told: str) -> DescribedImage:
    """Write a few shapes, each with one attribute, all of them different but for the sizes."""
    image, ending = DescribedImage(painter=None), ","
    while ending == ",":
        number, items = len(image.items) + 1, tuple(image.items.values())
        endings = tuple(mark for mark, fits in ((",", number < MOST), (".", number >= FEWEST)) if fits)
        size, colour = w.pick(with_articles(SIZES)).split()[1] if told == "sizes" else "", ""
        if told == "colours":
            colour = w.pick(with_articles(others(COLOURS, tuple(item.colour for item in items)))).split()[1]
        shapes = others(SHAPES, tuple(image.items))
        if told == "places":
            shape = w.pick(with_articles(shapes)).split()[1]
            places = others(tuple(PLACES), tuple(item.place for item in items))
            ended = {f"{place}{mark}": (place, mark) for place in places for mark in endings}
            place, ending = ended[w.pick(tuple(ended))]
        else:
            ends = {f"{shape}{mark}": (shape, mark) for shape in shapes for mark in endings}
            (shape, ending), place = ends[w.pick(tuple(ends))], ""
        image.items[shape] = Item(size, colour, shape, place)
    return image


_GRAMMARS = {"colours": write_colours, "lookups": write_lookups, "questions": write_questions}
