"""Stories of two people and the things they put somewhere, take, give away and look for."""

from dataclasses import dataclass

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import COLOURS, LOOKS, MANNERS, NAMES, ROOMS, SPOTS, THINGS, TIMES, WEATHER, others
from omnictl.tinyworld.topics.topic import Question, Remark, conclude


@dataclass
class Thing:
    """A thing and where it is now: a spot (`in the box`) or a person (`with Ben`)."""

    noun: str
    colour: str
    place: str

    @property
    def holder(self) -> str | None:
        """Who has it, if somebody has."""
        return self.place.removeprefix("with ") if self.place.startswith("with ") else None


class Things:
    """Two people and two things, told apart by noun, by colour and, lying about, by spot."""

    def __init__(self, people: tuple[str, str]) -> None:
        self.people = people
        self.things: dict[str, Thing] = {}

    def remarks(self) -> dict[str, Remark]:
        """Searches, and what the things look like."""
        return {
            "later they looked for the": self._search,
            "in the end they wanted the": self._wish,
            "at bedtime the": self._rest,
            "the": self._colours,
        }

    def questions(self) -> dict[str, Question]:
        """Where things are, who has them, what they look like."""
        questions: dict[str, Question] = {
            "where was the": self._ask_place,
            "tell me where the": self._ask_place_politely,
            "what colour was the": self._ask_colour,
            "which thing was": self._ask_thing_by_colour,
            "was the": self._ask_whether,
        }
        if any(thing.holder for thing in self.things.values()):
            questions["who had the"] = self._ask_holder
        if any(not thing.holder for thing in self.things.values()):
            questions["what was"] = self._ask_thing_by_spot
        return questions

    def add(self, w: Writer, subject: str) -> None:
        """Write where a new thing lies; `subject` has been written: `there was a`, or who put it there."""
        if subject in self.people:
            w.say("put a")
        w.pick(LOOKS)
        colour = w.pick(others(COLOURS, tuple(thing.colour for thing in self.things.values())))
        noun = w.pick(others(THINGS, tuple(self.things)))
        spot = w.pick(self._free_spots())
        w.say(".")
        self.things[noun] = Thing(noun, colour, spot)

    def change(self, w: Writer) -> None:
        """Somebody takes a thing, gives it away, or moves it."""
        name = w.pick(self.people)
        w.pick(MANNERS)
        verb = w.pick(("took the", "gave the", "moved the"))
        thing = self._pick_thing(w)
        if verb == "took the":
            thing.place = f"with {name}"
        elif verb == "gave the":
            (other,) = others(self.people, (name,))
            w.say(f"to {other}")
            thing.place = f"with {other}"
        else:
            w.say("and now it was")
            thing.place = w.pick(self._free_spots())
        w.say(".")

    def _search(self, w: Writer) -> None:
        thing = self._pick_thing(w)
        w.say(f". {_place_sentence(thing)}")

    def _wish(self, w: Writer) -> None:
        thing = self._pick_by_colour(w)
        w.say(f"{thing.noun}. {_place_sentence(thing)}")

    def _rest(self, w: Writer) -> None:
        thing = self._pick_thing(w)
        w.say(f"was {thing.place}.")

    def _colours(self, w: Writer) -> None:
        first = self._pick_thing(w)
        w.say(f"was {first.colour} and the")
        second = self.things[w.pick(others(tuple(self.things), (first.noun,)))]
        w.say(f"was {second.colour}.")

    def _ask_place(self, w: Writer) -> str:
        thing = self._pick_thing(w)
        w.say("?")
        return f"the {thing.noun} was {thing.place}."

    def _ask_place_politely(self, w: Writer) -> str:
        thing = self._pick_thing(w)
        w.say("was.")
        return f"the {thing.noun} was {thing.place}."

    def _ask_colour(self, w: Writer) -> str:
        thing = self._pick_thing(w)
        w.say("?")
        return f"the {thing.noun} was {thing.colour}."

    def _ask_thing_by_colour(self, w: Writer) -> str:
        thing = self._pick_by_colour(w)
        w.say("?")
        return f"the {thing.colour} thing was the {thing.noun}."

    def _ask_thing_by_spot(self, w: Writer) -> str:
        by_spot = {thing.place: thing.noun for thing in self.things.values() if not thing.holder}
        spot = w.pick(tuple(by_spot))
        w.say("?")
        return f"{spot} was the {by_spot[spot]}."

    def _ask_whether(self, w: Writer) -> str:
        thing = self._pick_thing(w)
        place = w.pick(tuple(dict.fromkeys(other.place for other in self.things.values())))
        w.say("?")
        return conclude(_place_sentence(thing).removesuffix("."), place == thing.place)

    def _ask_holder(self, w: Writer) -> str:
        thing = self.things[w.pick(tuple(thing.noun for thing in self.things.values() if thing.holder))]
        w.say("?")
        return f"{thing.holder}."

    def _pick_thing(self, w: Writer) -> Thing:
        return self.things[w.pick(tuple(self.things))]

    def _pick_by_colour(self, w: Writer) -> Thing:
        by_colour = {thing.colour: thing for thing in self.things.values()}
        return by_colour[w.pick(tuple(by_colour))]

    def _free_spots(self) -> tuple[str, ...]:
        return others(SPOTS, tuple(thing.place for thing in self.things.values()))


def tell_things(w: Writer) -> Things:
    """When, who and where; two things; one event. After `one`."""
    w.pick(WEATHER)
    w.pick(TIMES)
    first = w.pick(NAMES)
    w.say("and")
    second = w.pick(others(NAMES, (first,)))
    w.say("were in the")
    w.pick(ROOMS)
    w.say(".")
    things = Things((first, second))
    subjects = (first, second, "there was a")
    things.add(w, w.pick(subjects))
    things.add(w, w.pick(subjects))
    w.say("then")
    things.change(w)
    return things


def _place_sentence(thing: Thing) -> str:
    return f"{thing.holder} had it." if thing.holder else f"it was {thing.place}."
