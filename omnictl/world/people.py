"""People introduced with job, home, pet and hobby, which later sentences recall."""

from functools import partial

from omnictl.world.grammar import Writer
from omnictl.world.lexicon import (
    COATS,
    DAYS,
    DWELLINGS,
    FEMALE_KIN,
    HOBBIES,
    JOBS,
    LANDMARKS,
    MALE_KIN,
    MEN,
    NAMES,
    PETS,
    TRAITS,
    WOMEN,
    her_or_his,
    others,
    she_or_he,
    with_article,
)
from omnictl.world.topic import Question, Remark

JOB, HOME, PET, HOBBY = "is a", "lives in a", "has a", "likes to"
_VALUES = {JOB: JOBS, HOME: LANDMARKS, PET: PETS, HOBBY: HOBBIES}
_DETAILS = {JOB: TRAITS, HOME: DWELLINGS, PET: COATS}
"""What is said before the value; of these only an animal's colour comes back."""


class People:
    """Two or three people; each has two of job, home, pet and hobby, and nobody shares one."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, str]] = {fact: {} for fact in _VALUES}  # fact -> name -> value
        self.coats: dict[str, str] = {}  # pet -> its colour
        self.kin = ("", "", "")  # a person, what the second is to them, the second
        self.day: str | None = None

    def remarks(self) -> dict[str, Remark]:
        """Sentences in which job, home, pet and hobby come back."""
        remarks: dict[str, Remark] = {f"so {self.kin[0]} has": self._recall_kin}
        if self.known[JOB]:
            remarks["every day"] = partial(self._recall, JOB, "works as a")
            remarks["the"] = partial(self._recall_owner, JOB, "is")
        if self.known[HOME]:
            remarks["at night"] = partial(self._recall, HOME, "sleeps near the")
            remarks["near the"] = partial(self._recall_owner, HOME, "you can find")
        if self.known[HOBBY]:
            remarks["on holidays"] = partial(self._recall, HOBBY, "wants to")
        if self.known[PET]:
            remarks["in the morning"] = self._recall_pet
        return remarks

    def questions(self) -> dict[str, Question]:
        """Who has which job, home, pet, hobby, and the other way round."""
        questions: dict[str, Question] = {f"who is {self.kin[0]}'s": self._ask_kin}
        if self.day:
            questions["when do"] = self._ask_day
        if self.known[JOB]:
            questions["what is the job of"] = partial(self._ask_value, JOB, "?", "a")
            questions["who is the"] = partial(self._ask_owner, JOB)
        if self.known[HOME]:
            questions["where does"] = partial(self._ask_value, HOME, "live?", "near the")
            questions["who lives near the"] = partial(self._ask_owner, HOME)
        if self.known[HOBBY]:
            questions["what does"] = partial(self._ask_value, HOBBY, "like to do?", "")
            questions["who likes to"] = partial(self._ask_owner, HOBBY)
        if self.known[PET]:
            questions["which pet does"] = partial(self._ask_value, PET, "have?", "a")
            questions["who has a"] = partial(self._ask_owner, PET)
            questions["what colour is the pet of"] = self._ask_coat
        return questions

    def introduce(self, w: Writer, name: str) -> None:
        """Write two facts about a person."""
        w.say(she_or_he(name))
        first = w.pick(tuple(_VALUES))
        self._tell_fact(w, name, first)
        if w.pick((".", "and")) == ".":
            w.say(she_or_he(name))
        self._tell_fact(w, name, w.pick(others(tuple(_VALUES), (first,))))
        w.say(".")

    def _tell_fact(self, w: Writer, name: str, fact: str) -> None:
        detail = w.pick(_DETAILS[fact]) if fact in _DETAILS else ""
        if fact == HOME:
            w.say("near the")
        value = w.pick(others(_VALUES[fact], tuple(self.known[fact].values())))
        self.known[fact][name] = value
        if fact == PET:
            self.coats[value] = detail

    def _recall(self, fact: str, verb: str, w: Writer) -> None:
        name = w.pick(tuple(self.known[fact]))
        w.say(f"{verb} {self.known[fact][name]}.")

    def _recall_owner(self, fact: str, verb: str, w: Writer) -> None:
        owner = {value: name for name, value in self.known[fact].items()}
        value = w.pick(tuple(owner))
        w.say(f"{verb} {owner[value]}.")

    def _recall_pet(self, w: Writer) -> None:
        name = w.pick(tuple(self.known[PET]))
        pet = self.known[PET][name]
        w.say(f"feeds {her_or_his(name)} {self.coats[pet]} {pet}.")

    def _recall_kin(self, w: Writer) -> None:
        w.say(f"{with_article(self.kin[1])} called {self.kin[2]}.")

    def _ask_kin(self, w: Writer) -> str:
        w.say(f"{self.kin[1]}?")
        return f"{self.kin[2]}."

    def _ask_day(self, w: Writer) -> str:
        w.say("they meet?")
        return f"on {self.day}."

    def _ask_value(self, fact: str, rest: str, before: str, w: Writer) -> str:
        name = w.pick(tuple(self.known[fact]))
        w.say(rest)
        return f"{before} {self.known[fact][name]}.".strip()

    def _ask_owner(self, fact: str, w: Writer) -> str:
        owner = {value: name for name, value in self.known[fact].items()}
        value = w.pick(tuple(owner))
        w.say("?")
        return f"{owner[value]}."

    def _ask_coat(self, w: Writer) -> str:
        name = w.pick(tuple(self.known[PET]))
        w.say("?")
        return f"{self.coats[self.known[PET][name]]}."


def tell_people(w: Writer) -> People:
    """Two people who know each other, and a third or the day they meet; after `meet`."""
    people = People()
    first = w.pick(NAMES)
    w.say(".")
    people.introduce(w, first)
    w.say(her_or_his(first))
    kin = w.pick(tuple(dict.fromkeys(FEMALE_KIN + MALE_KIN)))
    w.say("is")
    second = w.pick(others(_names_of(kin), (first,)))
    w.say(".")
    people.kin = (first, kin, second)
    people.introduce(w, second)
    w.say("they")
    if w.pick(("meet on", "know")) == "know":
        third = w.pick(others(NAMES, (first, second)))
        w.say(".")
        people.introduce(w, third)
    else:
        people.day = w.pick(DAYS)
        w.say(".")
    return people


def _names_of(kin: str) -> tuple[str, ...]:
    if kin not in MALE_KIN:
        return WOMEN
    return NAMES if kin in FEMALE_KIN else MEN
