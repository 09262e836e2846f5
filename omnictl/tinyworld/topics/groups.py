"""Described images of two groups of like shapes, and questions about them."""

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import COLOURS, NUMBERS, SHAPES, SIZES, others, plural
from omnictl.tinyworld.topics.images import Item, join_phrases
from omnictl.tinyworld.topics.numbers import pick_number
from omnictl.tinyworld.topics.topic import Question, Remark, conclude

_SIDES = ("on the left", "on the right", "at the top", "at the bottom")


class Groups:
    """Two groups of like shapes, together at most four; they differ in shape, colour and side."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}  # by noun, as it is counted: `circles`, `star`
        self.numbers: dict[str, int] = {}

    def remarks(self) -> dict[str, Remark]:
        """How many there are, of what colour and size, and where."""
        return {
            "as you see, the": self._colour,
            "the": self._size,
            "you can see the": self._place,
            "look for the": self._noun,
            "count the": self._number,
            "all in all": self._sum,
        }

    def questions(self) -> dict[str, Question]:
        """How many there are, of what colour and size, and where."""
        return {
            "how many": self._ask_number,
            "what colour": self._ask_colour,
            "what size": self._ask_size,
            "where": self._ask_place,
            "what is": self._ask_what_is,
            "tell me what is": self._ask_noun,
            "are there more": self._ask_whether_more,
            "what do you": self._ask_caption,
        }

    def add(self, w: Writer, number: int) -> None:
        """Write a group, after its number."""
        items = tuple(self.items.values())
        size = w.pick(SIZES)
        colour = w.pick(others(COLOURS, tuple(item.colour for item in items)))
        shapes = {_noun(shape, number): shape for shape in others(SHAPES, tuple(item.shape for item in items))}
        noun = w.pick(tuple(shapes))
        place = w.pick(others(_SIDES, tuple(item.place for item in items)))
        self.items[noun] = Item(size, colour, shapes[noun], place)
        self.numbers[noun] = number

    def _pick_noun(self, w: Writer) -> str:
        return w.pick(tuple(self.items))

    def _pick_by_colour(self, w: Writer) -> str:
        by_colour = {item.colour: noun for noun, item in self.items.items()}
        return by_colour[w.pick(tuple(by_colour))]

    def _is_or_are(self, noun: str) -> str:
        return "is" if self.numbers[noun] == 1 else "are"

    def _count_group(self, noun: str) -> str:
        return f"{NUMBERS[self.numbers[noun]]} {self.items[noun].colour} {noun}"

    def _total(self) -> int:
        return sum(self.numbers.values())

    def _colour(self, w: Writer) -> None:
        noun = self._pick_noun(w)
        w.say(f"{self._is_or_are(noun)} {self.items[noun].colour}.")

    def _size(self, w: Writer) -> None:
        noun = self._pick_noun(w)
        w.say(f"{self._is_or_are(noun)} {self.items[noun].size}.")

    def _place(self, w: Writer) -> None:
        noun = self._pick_noun(w)
        w.say(f"{self.items[noun].place}.")

    def _noun(self, w: Writer) -> None:
        noun = self._pick_by_colour(w)
        w.say(f"{noun} {self.items[noun].place}.")

    def _number(self, w: Writer) -> None:
        noun = self._pick_noun(w)
        w.say(f". there {self._is_or_are(noun)} {NUMBERS[self.numbers[noun]]}.")

    def _sum(self, w: Writer) -> None:
        w.say(f"there are {NUMBERS[self._total()]} shapes in the picture.")

    def _ask_number(self, w: Writer) -> str:
        by_plural = {plural(item.shape): self.numbers[noun] for noun, item in self.items.items()}
        by_plural["shapes"] = self._total()
        number = by_plural[w.pick(tuple(by_plural))]
        w.say("are there?")
        return f"{NUMBERS[number]}."

    def _ask_colour(self, w: Writer) -> str:
        noun = self._ask_about(w)
        return f"the {noun} {self._is_or_are(noun)} {self.items[noun].colour}."

    def _ask_size(self, w: Writer) -> str:
        noun = self._ask_about(w)
        return f"the {noun} {self._is_or_are(noun)} {self.items[noun].size}."

    def _ask_place(self, w: Writer) -> str:
        noun = self._ask_about(w)
        return f"the {noun} {self._is_or_are(noun)} {self.items[noun].place}."

    def _ask_about(self, w: Writer) -> str:
        """The rest of `what colour are the circles?`; returns the noun."""
        endings = {f"{self._is_or_are(noun)} the {noun}?": noun for noun in self.items}
        return endings[w.pick(tuple(endings))]

    def _ask_what_is(self, w: Writer) -> str:
        by_place = {item.place: noun for noun, item in self.items.items()}
        place = w.pick(tuple(by_place))
        noun = by_place[place]
        w.say("?")
        return f"{place} {self._is_or_are(noun)} {self._count_group(noun)}."

    def _ask_noun(self, w: Writer) -> str:
        noun = self._pick_by_colour(w)
        w.say(".")
        return f"{NUMBERS[self.numbers[noun]]} {noun}."

    def _ask_whether_more(self, w: Writer) -> str:
        by_plural = {plural(item.shape): noun for noun, item in self.items.items()}
        noun = by_plural[w.pick(tuple(by_plural))]
        (other,) = others(tuple(self.items), (noun,))
        w.say(f"than {plural(self.items[other].shape)}?")
        counted = [f"{NUMBERS[self.numbers[group]]} {group}" for group in (noun, other)]
        facts = f"there {self._is_or_are(noun)} {join_phrases(counted)}"
        return conclude(facts, self.numbers[noun] > self.numbers[other])

    def _ask_caption(self, w: Writer) -> str:
        w.say("see?")
        return f"{join_phrases([self._count_group(noun) for noun in self.items])}."


def tell_groups(w: Writer) -> Groups:
    """Two groups in one sentence; after `there are`."""
    groups = Groups()
    number = pick_number(w, 2, 3)
    groups.add(w, number)
    w.say("and")
    groups.add(w, pick_number(w, 1, 4 - number))
    w.say(".")
    return groups


def _noun(shape: str, number: int) -> str:
    return shape if number == 1 else plural(shape)
