"""People introduced with job, home, pet and hobby, which later sentences recall."""

from typing import NamedTuple

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import (
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
from omnictl.tinyworld.topics.topic import Question, Remark, fixed_question, fixed_remark

JOB, HOME, PET, HOBBY = "is a", "lives in a", "has a", "likes to"
_VALUES = {JOB: JOBS, HOME: LANDMARKS, PET: PETS, HOBBY: HOBBIES}
_DETAILS = {JOB: TRAITS, HOME: DWELLINGS, PET: COATS}
"""What is said before the value; of these only an animal's colour comes back."""


class PersonFact(NamedTuple):
    """A fact about somebody: its value, and what was said before the value."""

    name: str
    detail: str
    value: str


class People:
    """Two people; one has two of job, home, pet and hobby, the other has the other two."""

    def __init__(self) -> None:
        self.facts: dict[str, PersonFact] = {}  # by fact
        self.kin = ("", "", "")  # a person, what the second is to them, the second
        self.day = ""

    def remarks(self) -> dict[str, Remark]:
        """Sentences in which job, home, pet and hobby come back."""
        job, home, pet, hobby = (self.facts[fact] for fact in _VALUES)
        first, kin, second = self.kin
        return {
            f"so {first} has": fixed_remark(f"{with_article(kin)} called {second}."),
            "every day": fixed_remark(f"{job.name} works as a {job.value}."),
            "the": fixed_remark(f"{job.value} is {job.name}."),
            "at night": fixed_remark(f"{home.name} sleeps near the {home.value}."),
            "near the": fixed_remark(f"{home.value} you can find {home.name}."),
            "on holidays": fixed_remark(f"{hobby.name} wants to {hobby.value}."),
            "in the morning": fixed_remark(f"{pet.name} feeds {her_or_his(pet.name)} {pet.detail} {pet.value}."),
        }

    def questions(self) -> dict[str, Question]:
        """Who has which job, home, pet, hobby, and the other way round."""
        job, home, pet, hobby = (self.facts[fact] for fact in _VALUES)
        first, kin, second = self.kin
        return {
            f"who is {first}'s": fixed_question(f"{kin}?", f"{first}'s {kin} is {second}."),
            "when do": fixed_question("they meet?", f"they meet on {self.day}."),
            "what is the job of": fixed_question(f"{job.name}?", f"{job.name} is a {job.value}."),
            "who is the": fixed_question(f"{job.value}?", f"the {job.value} is {job.name}."),
            "where does": fixed_question(f"{home.name} live?", f"{home.name} lives near the {home.value}."),
            "who lives near the": fixed_question(f"{home.value}?", f"{home.name}."),
            "what does": fixed_question(f"{hobby.name} like to do?", f"{hobby.name} likes to {hobby.value}."),
            "who likes to": fixed_question(f"{hobby.value}?", f"{hobby.name}."),
            "which pet does": fixed_question(f"{pet.name} have?", f"{pet.name} has a {pet.value}."),
            "who has a": fixed_question(f"{pet.value}?", f"{pet.name}."),
            "what colour is the": fixed_question(f"{pet.value}?", f"the {pet.value} is {pet.detail}."),
        }

    def introduce(self, w: Writer, name: str) -> None:
        """Write two facts about a person."""
        w.say(she_or_he(name))
        self._tell_fact(w, name)
        if w.pick((".", "and")) == ".":
            w.say(she_or_he(name))
        self._tell_fact(w, name)
        w.say(".")

    def _tell_fact(self, w: Writer, name: str) -> None:
        fact = w.pick(others(tuple(_VALUES), tuple(self.facts)))
        detail = w.pick(_DETAILS[fact]) if fact in _DETAILS else ""
        if fact == HOME:
            w.say("near the")
        self.facts[fact] = PersonFact(name, detail, w.pick(_VALUES[fact]))


def tell_people(w: Writer) -> People:
    """Two people who know each other, and the day they meet; after `meet`."""
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
    w.say("they meet on")
    people.day = w.pick(DAYS)
    w.say(".")
    return people


def _names_of(kin: str) -> tuple[str, ...]:
    if kin not in MALE_KIN:
        return WOMEN
    return NAMES if kin in FEMALE_KIN else MEN
