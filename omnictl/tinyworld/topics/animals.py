"""A visit to the animals: which were there, how many, of what colour; and what every animal says."""

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import (
    ANIMAL_HOMES,
    ANIMAL_SOUNDS,
    COATS,
    DAYS,
    LANDMARKS,
    NAMES,
    NUMBERS,
    WEATHER,
    count_noun,
    others,
    plural,
    she_or_he,
    with_article,
)
from omnictl.tinyworld.topics.topic import Question, Remark

_HOME_OF = {animal: home for home, animals in ANIMAL_HOMES.items() for animal in animals}
_COUNTS = (2, 3, 4, 5, 6)


class Visit:
    """Somebody at one of the animals' homes, and two sightings there: a coloured animal, or several of a kind."""

    def __init__(self, home: str, visitor: str) -> None:
        self.home = home
        self.visitor = visitor
        self.coats: dict[str, str] = {}  # of single animals
        self.counts: dict[str, int] = {}  # of the others

    def remarks(self) -> dict[str, Remark]:
        """Numbers, colours and sounds again."""
        remarks: dict[str, Remark] = {"later": self._draw, "back home": self._talk}
        if self.coats:
            remarks["the"] = self._colour_and_sound
        if self.counts:
            remarks["there were"] = self._number_and_sound
        return remarks

    def questions(self) -> dict[str, Question]:
        """What was seen and where, and what the animals say."""
        questions: dict[str, Question] = {"where was": self._ask_home_visited, "who saw the": self._ask_visitor}
        if self.coats:
            questions["what colour was the"] = self._ask_colour
            questions["which animal was"] = self._ask_animal
        if self.counts:
            questions["how many"] = self._ask_number
        return questions | ANIMAL_QUESTIONS

    def see(self, w: Writer) -> None:
        """Write what there was to see."""
        free = others(ANIMAL_HOMES[self.home], (*self.coats, *self.counts))
        coats = {with_article(coat): coat for coat in others(COATS, tuple(self.coats.values()))}
        counts = {NUMBERS[count]: count for count in _COUNTS if count not in self.counts.values()}
        chosen = w.pick(tuple(coats) + tuple(counts))
        if chosen in coats:
            self.coats[w.pick(free)] = coats[chosen]
        else:
            singular = {plural(animal): animal for animal in free}
            self.counts[singular[w.pick(tuple(singular))]] = counts[chosen]
        w.say("near the")
        w.pick(LANDMARKS)
        w.say(".")

    def _pick_sighted(self, w: Writer) -> str:
        singular = {animal: animal for animal in self.coats} | {plural(animal): animal for animal in self.counts}
        return singular[w.pick(tuple(singular))]

    def _draw(self, w: Writer) -> None:
        w.say(f"{self.visitor} drew the")
        animal = self._pick_sighted(w)
        amount = f"all {count_noun(self.counts[animal], animal)}" if animal in self.counts else f"it {self.coats[animal]}"
        w.say(f"and painted {amount}.")

    def _talk(self, w: Writer) -> None:
        w.say(f"{she_or_he(self.visitor)} talked about the")
        self._pick_sighted(w)
        w.say(".")

    def _colour_and_sound(self, w: Writer) -> None:
        animal = w.pick(tuple(self.coats))
        w.say(f"was {self.coats[animal]} and said {ANIMAL_SOUNDS[animal]}.")

    def _number_and_sound(self, w: Writer) -> None:
        animals = {count_noun(number, animal): animal for animal, number in self.counts.items()}
        animal = animals[w.pick(tuple(animals))]
        w.say(f"and they said {ANIMAL_SOUNDS[animal]}.")

    def _ask_home_visited(self, w: Writer) -> str:
        w.say(f"{self.visitor}?")
        return f"{self.visitor} was {self.home}."

    def _ask_visitor(self, w: Writer) -> str:
        self._pick_sighted(w)
        w.say("?")
        return f"{self.visitor}."

    def _ask_colour(self, w: Writer) -> str:
        animal = w.pick(tuple(self.coats))
        w.say("?")
        return f"the {animal} was {self.coats[animal]}."

    def _ask_animal(self, w: Writer) -> str:
        animals = {coat: animal for animal, coat in self.coats.items()}
        coat = w.pick(tuple(animals))
        w.say("?")
        return f"the {coat} animal was the {animals[coat]}."

    def _ask_number(self, w: Writer) -> str:
        animals = {plural(animal): animal for animal in self.counts}
        animal = animals[w.pick(tuple(animals))]
        w.say("were there?")
        return f"{NUMBERS[self.counts[animal]]}."


def tell_visit(w: Writer) -> Visit:
    """When, who, where, the weather, and two sightings; after `last`."""
    w.pick((*DAYS, "week", "month", "year", "summer", "winter"))
    visitor = w.pick(NAMES)
    w.say("was")
    visit = Visit(w.pick(tuple(ANIMAL_HOMES)), visitor)
    w.say(". it was a")
    w.pick(WEATHER)
    w.say(f"day. {she_or_he(visitor)} saw")
    visit.see(w)
    w.say(f"then {she_or_he(visitor)} saw")
    visit.see(w)
    return visit


def _pick_animal(w: Writer) -> str:
    return w.pick(tuple(ANIMAL_SOUNDS))


def _ask_sound(w: Writer) -> str:
    animal = _pick_animal(w)
    w.say("say?")
    return f"{ANIMAL_SOUNDS[animal]}."


def _ask_home(w: Writer) -> str:
    animal = _pick_animal(w)
    w.say("live?")
    return f"{_HOME_OF[animal]}."


def _ask_speaker(w: Writer) -> str:
    animals = {sound: animal for animal, sound in ANIMAL_SOUNDS.items()}
    animal = animals[w.pick(tuple(animals))]
    w.say("?")
    return f"{with_article(animal)}."


ANIMAL_QUESTIONS: dict[str, Question] = {
    "what does the": _ask_sound,
    "where does the": _ask_home,
    "which animal says": _ask_speaker,
}
"""Questions about animals that need nothing told before."""
