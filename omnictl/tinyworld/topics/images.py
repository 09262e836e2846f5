"""Described images: one to four shapes, each with size, colour and place; and questions about them.

The questions and their answers are the ones that are asked of drawn images, too. Answers are whole sentences: what was asked
for stands after the words that it was asked by, as it does in a description. Numbers and names stand alone; yes or no stands after
the facts that it follows from, whether there is a shape after the names of all that there are.
"""

from collections.abc import Iterable
from typing import NamedTuple

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import (
    COLOURS,
    NAMES,
    NUMBERS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    count_noun,
    others,
    with_article,
    with_articles,
)
from omnictl.tinyworld.topics.topic import Question, Remark, conclude


class Item(NamedTuple):
    """One shape of an image."""

    size: str
    colour: str
    shape: str
    place: str

    def phrase(self) -> str:
        """`a small red circle at the top left`."""
        return f"{with_article(self.size)} {self.colour} {self.shape} {self.place}"


class DescribedImage:
    """One to four shapes, no two of the same shape, colour or place.

    Args:
        painter: who made it, if that was told.
        drawn: it is seen, not told.
    """

    def __init__(self, painter: str | None, *, drawn: bool = False) -> None:
        self.painter, self._drawn = painter, drawn
        self.items: dict[str, Item] = {}  # by shape

    def remarks(self) -> dict[str, Remark]:
        """What is where, of what colour and size, beside what."""
        remarks: dict[str, Remark] = {
            "the colour of the": self._colour,
            "the size of the": self._size,
            "you can see the": self._place,
            "look for the": self._shape,
            "all in all": self._number,
        }
        if len(self.items) == 2:  # of more, there would be too much to say
            remarks["as you see, the"] = self._relation
        return remarks

    def questions(self) -> dict[str, Question]:
        """Colour, shape, size, place, number, relation, yes or no, and the whole description."""
        questions: dict[str, Question] = {
            "what colour is the": self._ask_colour,
            "tell me the colour of the": self._ask_colour_politely,
            "which shape is": self._ask_shape,
            "what size is the": self._ask_size,
            "where is the": self._ask_place,
            "tell me where the": self._ask_place_politely,
            "what is": self._ask_what_is,
            "how many shapes": self._ask_number,
            "is there": self._ask_presence,
            "is the": self._ask_whether_colour,
            "what do you": self._ask_caption,
        }
        if len(self.items) > 1:
            questions["is it true that the"] = self._ask_whether_relation
        if self.painter:
            questions["who made"] = self._ask_painter
        if len(self.items) < 4:  # four shapes would make the document long
            questions["please describe"] = self._ask_description
        return questions

    def add(self, w: Writer, endings: tuple[str, ...]) -> str:
        """Write a new shape and one of `endings`; returns which."""
        items = tuple(self.items.values())
        size = w.pick(with_articles(SIZES)).split()[1]
        colour = w.pick(others(COLOURS, tuple(item.colour for item in items)))
        shape = w.pick(others(SHAPES, tuple(self.items)))
        places = others(tuple(PLACES), tuple(item.place for item in items))
        ended = {f"{place}{ending}": (place, ending) for place in places for ending in endings}
        place, ending = ended[w.pick(tuple(ended))]
        self.items[shape] = Item(size, colour, shape, place)
        return ending

    def _name_all(self) -> str:
        """All shapes in the order in which they were told, or are found from the top left on."""
        return name_shapes(sort_by_place(self.items.values()) if self._drawn else self.items.values())

    def _pick_item(self, w: Writer) -> Item:
        return self.items[w.pick(tuple(self.items))]

    def _pick_by_colour(self, w: Writer) -> Item:
        by_colour = {item.colour: item for item in self.items.values()}
        return by_colour[w.pick(tuple(by_colour))]

    def _colour(self, w: Writer) -> None:
        item = self._pick_item(w)
        w.say(f"is {item.colour}.")

    def _size(self, w: Writer) -> None:
        item = self._pick_item(w)
        w.say(f"is {item.size}.")

    def _place(self, w: Writer) -> None:
        item = self._pick_item(w)
        w.say(f"{item.place}.")

    def _shape(self, w: Writer) -> None:
        item = self._pick_by_colour(w)
        w.say(f"{item.shape} {item.place}.")

    def _number(self, w: Writer) -> None:
        number = len(self.items)
        w.say(f"there {'is' if number == 1 else 'are'} {count_noun(number, 'shape')} in the picture.")

    def _relation(self, w: Writer) -> None:
        first = self._pick_item(w)
        w.say("is")
        w.pick(self._ways_to_relate(first))
        w.say(".")

    def _ways_to_relate(self, first: Item) -> tuple[str, ...]:
        """Every true relation of `first` to another shape: `above the star`."""
        rest = [item for item in self.items.values() if item is not first]
        return tuple(
            f"{relation} the {second.shape}" for relation in RELATIONS for second in rest if holds(relation, first, second)
        )

    def _ask_caption(self, w: Writer) -> str:
        w.say("see?")
        return f"{join_phrases([with_article(f'{item.colour} {item.shape}') for item in self.items.values()])}."

    def _ask_description(self, w: Writer) -> str:
        w.say("the picture.")
        return f"{join_phrases([item.phrase() for item in self.items.values()])}."

    def _ask_painter(self, w: Writer) -> str:
        w.say("this picture?")
        return f"{self.painter}."

    def _ask_number(self, w: Writer) -> str:
        w.say("are there?")
        return f"{NUMBERS[len(self.items)]}."

    def _ask_colour(self, w: Writer) -> str:
        item = self._pick_item(w)
        w.say("?")
        return f"the {item.shape} is {item.colour}."

    def _ask_colour_politely(self, w: Writer) -> str:
        item = self._pick_item(w)
        w.say(".")
        return f"the {item.shape} is {item.colour}."

    def _ask_shape(self, w: Writer) -> str:
        item = self._pick_by_colour(w)
        w.say("?")
        return f"the {item.colour} shape is the {item.shape}."

    def _ask_size(self, w: Writer) -> str:
        item = self._pick_item(w)
        w.say("?")
        return f"the {item.shape} is {item.size}."

    def _ask_place(self, w: Writer) -> str:
        item = self._pick_item(w)
        w.say("?")
        return f"the {item.shape} is {item.place}."

    def _ask_place_politely(self, w: Writer) -> str:
        item = self._pick_item(w)
        w.say("is.")
        return f"the {item.shape} is {item.place}."

    def _ask_what_is(self, w: Writer) -> str:
        """What is in a place; of two shapes, also what is beside the other."""
        items = {f"{item.place}?": item for item in self.items.values()}
        if len(self.items) == 2:
            for first in self.items.values():
                items |= {f"{way}?": first for way in self._ways_to_relate(first)}
        phrase = w.pick(tuple(items))
        return f"{phrase.removesuffix('?')} is the {items[phrase].shape}."

    def _ask_presence(self, w: Writer) -> str:
        """Half of the shapes asked for are there."""
        present = len(self.items)
        weights = tuple(len(SHAPES) - present if shape in self.items else present for shape in SHAPES)
        shape = w.pick(with_articles(SHAPES), weights).split()[1]
        w.say("in the picture?")
        return conclude(self._name_all(), shape in self.items)

    def _ask_whether_colour(self, w: Writer) -> str:
        """Half of the colours are right; of the wrong ones most are another shape's."""
        item = self._pick_item(w)
        used = tuple(other.colour for other in self.items.values())
        wrong = tuple(0 if colour == item.colour else 6 if colour in used else 1 for colour in COLOURS)
        weights = tuple(sum(wrong) if colour == item.colour else weight for colour, weight in zip(COLOURS, wrong, strict=True))
        colour = w.pick(COLOURS, weights)
        w.say("?")
        return conclude(f"the {item.shape} is {item.colour}", colour == item.colour)

    def _ask_whether_relation(self, w: Writer) -> str:
        first = self._pick_item(w)
        w.say("is")
        relation = w.pick(tuple(RELATIONS))
        w.say("the")
        second = self.items[w.pick(others(tuple(self.items), (first.shape,)))]
        w.say("?")
        facts = f"the {first.shape} is {first.place} and the {second.shape} is {second.place}"
        return conclude(facts, holds(relation, first, second))


def tell_numbered_image(w: Writer) -> DescribedImage:
    """One to four shapes, announced, a sentence each; after `this picture by`."""
    image = DescribedImage(w.pick(NAMES))
    w.say("shows")
    numbers = {count_noun(number, "shape"): number for number in range(1, 5)}
    number = numbers[w.pick(tuple(numbers), (4, 4, 2, 1))]
    w.say(".")
    for _ in range(number):
        w.say("there is")
        image.add(w, (".",))
    return image


def tell_image(w: Writer) -> DescribedImage:
    """Two or three shapes in two sentences; after `there is`."""
    image = DescribedImage(painter=None)
    if image.add(w, (".", " and")) == " and":
        image.add(w, (".",))
    w.say("there is also")
    image.add(w, (".",))
    return image


def holds(relation: str, first: Item, second: Item) -> bool:
    """Whether `first` is in that relation to `second`: by column for left and right, by row for above and below."""
    down, right = RELATIONS[relation]
    (row, column), (other_row, other_column) = PLACES[first.place], PLACES[second.place]
    return (row - other_row) * down + (column - other_column) * right > 0


def sort_by_place(items: Iterable[Item]) -> list[Item]:
    """Row by row from the top left on."""
    return sorted(items, key=lambda item: PLACES[item.place])


def name_shapes(items: Iterable[Item]) -> str:
    """`star, moon and heart`: each shape once."""
    return join_phrases(list(dict.fromkeys(item.shape for item in items)))


def join_phrases(phrases: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))
